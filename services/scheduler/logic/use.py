"""How full the fleet is, for whoever watches over it."""

from collections.abc import Mapping

import numpy as np

from services.scheduler.logic.fleet import BoolArray, Fleet, IntArray

RESOURCES = ("vcpus", "memory_mib", "disk_gib")
HOST_LABELS = ("up", "enabled")
AMOUNT_LABELS = ("resource", "open")

Amounts = Mapping[tuple[str, ...], float]


def hosts(fleet: Fleet) -> Amounts:
    """How many hosts there are, by whether they are heard of and whether they are enabled."""
    up, enabled = fleet.hosts.up, fleet.hosts.enabled
    return {
        (_word(is_up), _word(is_enabled)): float(
            np.count_nonzero((up == is_up) & (enabled == is_enabled))
        )
        for is_up in (True, False)
        for is_enabled in (True, False)
    }


def target(fleet: Fleet) -> Amounts:
    """What claims may add up to, by resource and by whether the hosts take new instances."""
    return _amounts(fleet, fleet.hosts.target)


def used(fleet: Fleet) -> Amounts:
    """What live claims add up to, in the same way."""
    return _amounts(fleet, fleet.hosts.used)


def promised(fleet: Fleet) -> Amounts:
    """What was chosen and does not show in the ledger yet, in the same way."""
    return _amounts(fleet, fleet.hosts.taken - fleet.hosts.used)


def _amounts(fleet: Fleet, columns: IntArray) -> Amounts:
    is_open: BoolArray = fleet.hosts.up & fleet.hosts.enabled
    return {
        (resource, _word(wanted)): float(columns[row, is_open == wanted].sum())
        for row, resource in enumerate(RESOURCES)
        for wanted in (True, False)
    }


def _word(value: bool) -> str:
    return str(value).lower()
