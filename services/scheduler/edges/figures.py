"""What the scheduler shows to whoever watches over it, beside what every service counts."""

from functools import partial

from services.runtime.metrics import Meters
from services.scheduler.flows.place import Placement
from services.scheduler.logic import use
from services.scheduler.logic.fleet import Fleet


def add_gauges(meters: Meters, fleet: Fleet, placement: Placement) -> None:
    """How full the fleet is, and who waits."""
    gauge = meters.gauge
    gauge("fleet_hosts", "Known hosts.", partial(use.hosts, fleet), use.HOST_LABELS)
    for name, about, read in (
        ("fleet_target", "What claims may add up to.", use.target),
        ("fleet_used", "What live claims add up to.", use.used),
        ("fleet_promised", "Chosen, and not in the ledger yet.", use.promised),
    ):
        gauge(name, about, partial(read, fleet), use.AMOUNT_LABELS)
    gauge("fleet_revision", "The revision that the fleet shows.", lambda: fleet.revision)
    gauge("place_waiting", "Requests that wait for a host.", lambda: placement.waiting)
