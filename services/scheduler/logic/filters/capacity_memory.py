"""The filter `capacity_memory`: there is room for the memory."""

from services.scheduler.logic.fleet import MEMORY, BoolArray, Hosts
from services.scheduler.logic.request import Shape


def passes(hosts: Hosts, shape: Shape) -> BoolArray:
    """True where taken and asked stay within target, which has ratio and reserve in it already."""
    mask: BoolArray = hosts.taken[MEMORY] + shape.resources.memory_mib <= hosts.target[MEMORY]
    return mask
