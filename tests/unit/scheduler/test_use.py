"""The figures of a fleet add up, whatever its hosts are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.domain.resources import Resources
from services.scheduler.logic import use
from services.scheduler.logic.choose import choose
from services.scheduler.logic.weighers import Weights
from tests.unit.scheduler.fleets import fleet_of, requests, row, shape

HOSTS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.integers(0, 8), st.integers(0, 8)), max_size=12
)


@given(HOSTS)
def test_every_host_is_counted_once_and_every_amount_too(
    hosts: list[tuple[bool, bool, int, int]],
) -> None:
    fleet = fleet_of(
        *(
            row(f"h{n}", up=up, enabled=on, target=Resources(8, 0, 0), used=Resources(used, mib, 0))
            for n, (up, on, used, mib) in enumerate(hosts)
        )
    )
    counted = use.hosts(fleet)
    assert sum(counted.values()) == len(hosts)
    assert counted["true", "false"] == sum(up and not on for up, on, _, _ in hosts)
    assert use.target(fleet)["vcpus", "true"] == 8 * sum(up and on for up, on, _, _ in hosts)
    assert sum(v for (name, _), v in use.used(fleet).items() if name == "vcpus") == sum(
        used for _, _, used, _ in hosts
    )
    assert use.used(fleet)["memory_mib", "false"] == sum(
        mib for up, on, _, mib in hosts if not (up and on)
    )
    assert set(use.promised(fleet).values()) == {0}


def test_what_was_chosen_shows_as_promised_until_the_ledger_has_it() -> None:
    fleet = fleet_of(row("h0"))
    choose(fleet, requests(2, shape(Resources(1, 512, 10))), weights=Weights(), now_s=0)
    assert use.promised(fleet)["memory_mib", "true"] == 1024
    assert use.used(fleet)["memory_mib", "true"] == 0
