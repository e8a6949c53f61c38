"""The filter `up`: the host is heard of."""

from services.scheduler.logic.fleet import BoolArray, Hosts
from services.scheduler.logic.request import Shape


def passes(hosts: Hosts, _shape: Shape) -> BoolArray:
    """True where the agent reports in time."""
    return hosts.up
