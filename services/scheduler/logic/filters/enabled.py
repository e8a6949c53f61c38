"""The filter `enabled`: an admin allows new instances on the host."""

from services.scheduler.logic.fleet import BoolArray, Hosts
from services.scheduler.logic.request import Shape


def passes(hosts: Hosts, _shape: Shape) -> BoolArray:
    """True where instances may be placed."""
    return hosts.enabled
