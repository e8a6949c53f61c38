"""The filter `capacity_vcpus`: there is room for the virtual CPUs."""

from services.scheduler.logic.fleet import VCPUS, BoolArray, Hosts
from services.scheduler.logic.request import Shape


def passes(hosts: Hosts, shape: Shape) -> BoolArray:
    """True where taken and asked stay within target, which has ratio and reserve in it already."""
    mask: BoolArray = hosts.taken[VCPUS] + shape.resources.vcpus <= hosts.target[VCPUS]
    return mask
