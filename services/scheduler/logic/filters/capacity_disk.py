"""The filter `capacity_disk`: there is room for the disk."""

from services.scheduler.logic.fleet import DISK, BoolArray, Hosts
from services.scheduler.logic.request import Shape


def passes(hosts: Hosts, shape: Shape) -> BoolArray:
    """True where taken and asked stay within target, which has ratio and reserve in it already."""
    mask: BoolArray = hosts.taken[DISK] + shape.resources.disk_gib <= hosts.target[DISK]
    return mask
