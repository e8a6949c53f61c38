"""Leases cannot lapse all at once, nor where nobody could have been heard. MECHANICS D5."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.conductor.logic.leases import Lease, Leases, Road, gap_s, judged
from services.domain.kinds import HostState
from tests.examples import examples

UP, DOWN, UNKNOWN = HostState.UP, HostState.DOWN, HostState.UNKNOWN
LEASE_S = 45.0
OPEN, CLOSED = Road(10_000.0, 1.0), Road(10_000.0, 10_000.0)


def hosts(*silences: float, state: HostState = UP) -> tuple[Lease, ...]:
    return tuple(Lease(f"h{n}", state, False, silent_s) for n, silent_s in enumerate(silences))


def states(
    leases: tuple[Lease, ...], *, heard: Road = OPEN, apis: Road = CLOSED
) -> list[HostState]:
    return list(judged(Leases(leases, heard, apis), LEASE_S).values())


def test_a_host_that_is_silent_while_others_are_heard_is_down() -> None:
    assert states(hosts(47.0, 1.0, 1.0)) == [DOWN, UP, UP]


def test_a_host_whose_bus_is_silent_is_not_schedulable_and_nothing_else_follows() -> None:
    """It is UNKNOWN while it beats; where it falls silent altogether its lease decides."""
    one, two, three = hosts(1.0, 47.0, 1.0)
    deaf = replace(one, bus_silent=True), replace(two, bus_silent=True)
    assert states((*deaf, three)) == [UNKNOWN, DOWN, UP]


def test_a_host_is_not_down_where_nobody_was_heard() -> None:
    """The conductor, or the road to it, was away: that is told from silence by the others."""
    assert states(hosts(300.0, 300.0, 1.0, 1.0), heard=Road(5.0, 1.0)) == [UNKNOWN] * 2 + [UP] * 2


def test_a_host_is_down_once_others_were_heard_for_a_whole_lease_of_its_silence() -> None:
    assert states(hosts(300.0, 1.0, 1.0), heard=Road(45.5, 1.0))[0] is UNKNOWN
    assert states(hosts(300.0, 1.0, 1.0), heard=Road(46.5, 1.0))[0] is DOWN


def test_of_one_or_two_hosts_the_roads_from_api_prove_it() -> None:
    for silences in ((47.0,), (47.0, 47.0)):
        assert set(states(hosts(*silences), heard=CLOSED, apis=CLOSED)) == {UNKNOWN}
        assert set(states(hosts(*silences), heard=CLOSED, apis=OPEN)) == {DOWN}
    assert set(states(hosts(47.0, 47.0, 47.0), heard=CLOSED, apis=OPEN)) == {UNKNOWN}


def test_of_the_last_one_or_two_hosts_it_is_the_same_however_many_are_dead() -> None:
    """Whoever is DOWN is not there to be heard."""
    dead = tuple(Lease(f"d{n}", DOWN, False, 500.0) for n in range(7))
    fenced = tuple(replace(one, state=UNKNOWN, fenced=True) for one in dead)
    for silences in ((47.0,), (47.0, 47.0)):
        alive = hosts(*silences)
        for gone in (dead, fenced):
            assert states((*alive, *gone), heard=CLOSED)[: len(alive)] == [UNKNOWN] * len(alive)
            found = states((*alive, *gone), heard=CLOSED, apis=OPEN)
            assert found[: len(alive)] == [DOWN] * len(alive)
    # One that may yet be heard is enough to leave it to the hosts.
    found = states((*hosts(47.0, 47.0, 1.0), *dead), heard=CLOSED, apis=OPEN)
    assert found[:3] == [UNKNOWN, UNKNOWN, UP]


def test_of_many_that_fall_silent_within_a_lease_none_is_down() -> None:
    assert states(hosts(*[47.0] * 3, *[1.0] * 17)) == [UNKNOWN] * 3 + [UP] * 17
    assert states(hosts(*[47.0] * 2, *[1.0] * 18)) == [DOWN] * 2 + [UP] * 18
    # A tenth is not more than a tenth.
    assert states(hosts(*[47.0] * 3, *[1.0] * 27)) == [DOWN] * 3 + [UP] * 27


def test_the_first_of_many_is_not_down_before_the_others_lapse() -> None:
    assert states(hosts(47.0, 44.0, 31.0, *[1.0] * 7)) == [UNKNOWN] + [UP] * 9


def test_hosts_that_fell_one_after_another_are_down() -> None:
    assert states(hosts(47.0, 147.0, 247.0, *[1.0] * 7))[:3] == [DOWN] * 3


def test_one_that_stays_silent_when_the_others_are_back_is_down() -> None:
    gone = hosts(400.0, state=UNKNOWN) + hosts(1.0, 2.0, 3.0, state=UNKNOWN)[1:]
    assert states(gone)[0] is DOWN


def test_a_fenced_host_is_down_and_counts_for_nothing() -> None:
    fenced = tuple(Lease(f"f{n}", UNKNOWN, True, 50.0) for n in range(9))
    assert states(fenced + hosts(47.0, 1.0)) == [DOWN] * 10 + [UP]


RECORDED = st.sampled_from(HostState)
SILENCES = st.one_of(st.floats(0, 200), st.sampled_from([0.0, 22.5, 45.0, 45.1, float("inf")]))
LEASES = st.lists(st.tuples(RECORDED, st.booleans(), SILENCES), max_size=40).map(
    lambda rows: tuple(Lease(f"h{n}", *row) for n, row in enumerate(rows))
)
ROADS = st.tuples(st.floats(0, 200), st.floats(0, 200)).map(lambda r: Road(max(r), min(r)))


@settings(max_examples=examples(500))
@given(leases=LEASES, heard=ROADS, apis=ROADS)
def test_whatever_happens_nobody_is_down_without_proof(
    leases: tuple[Lease, ...], heard: Road, apis: Road
) -> None:
    found = judged(Leases(leases, heard, apis), LEASE_S)
    fresh = [
        one
        for one in leases
        if found[one.host_id] is DOWN and one.state is not DOWN and not one.fenced
    ]
    for one in leases:
        if not one.fenced:
            assert (found[one.host_id] is UP) == (one.silent_s <= LEASE_S)
    for one in fresh:
        living = sum(o.state is not DOWN and not o.fenced for o in leases)
        roads = [heard, apis] if living <= 2 else [heard]
        assert any(min(one.silent_s, r.since_s) - r.last_s > LEASE_S for r in roads)
        late = [o for o in leases if not o.fenced and o.silent_s > gap_s(LEASE_S)]
        for first in late:
            together = [o for o in late if 0 <= o.silent_s - first.silent_s <= LEASE_S]
            if one in together:
                assert len(together) < 3 or len(together) * 10 <= living
