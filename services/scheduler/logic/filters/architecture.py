"""The filter `architecture`: the host's guests can have the processors that the image is for."""

from services.scheduler.logic.fleet import BoolArray, Hosts
from services.scheduler.logic.request import Shape


def passes(hosts: Hosts, shape: Shape) -> BoolArray:
    """True where the architecture is offered."""
    mask: BoolArray = hosts.architectures & (1 << shape.architecture) != 0
    return mask
