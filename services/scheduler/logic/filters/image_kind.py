"""The filter `image_kind`: the host's hypervisor is one we know and starts this kind of image."""

from services.scheduler.logic.fleet import BoolArray, Hosts
from services.scheduler.logic.request import Shape


def passes(hosts: Hosts, shape: Shape) -> BoolArray:
    """True where the driver says that it can."""
    mask: BoolArray = (hosts.hypervisors != 0) & (hosts.image_kinds & (1 << shape.image_kind) != 0)
    return mask
