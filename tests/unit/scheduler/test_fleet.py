"""Goal: the fleet shows the newest row of every host and every living promise, in whatever order
they come.

Method: random feeds, early pages and promises against a plain model of dictionaries.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.resources import Resources
from services.scheduler.logic.changes import Change, apply
from services.scheduler.logic.fleet import DEBIT_S, Fleet, HostRow
from tests.unit.scheduler import fleets

IDS = [f"host-{n}" for n in range(6)]
ONE = Resources(1, 10, 100)


def shown(fleet: Fleet) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Revision and ledger's use of each host."""
    return {
        host_id: (int(fleet.hosts.revisions[slot]), tuple(fleet.hosts.used[:, slot].tolist()))
        for slot, host_id in enumerate(fleet.ids)
    }


def promised(fleet: Fleet) -> dict[str, int]:
    """How many promises of ONE stand on each host."""
    amounts = fleet.hosts.taken - fleet.hosts.used
    assert (amounts == np.array([[1], [10], [100]]) * amounts[0]).all()
    return {i: int(n) for i, n in zip(fleet.ids, amounts[0], strict=True) if n}


def promise(fleet: Fleet, instance_id: str, host_id: str, now_s: float) -> None:
    slots = np.array([fleet.hosts.slots[host_id]], np.int64)
    fleet.debit_add([instance_id], slots, resources=ONE, now_s=now_s)


LOGS = st.lists(st.tuples(st.sampled_from(IDS), st.booleans(), st.integers(0, 9)), max_size=40)


def changes_of(log: list[tuple[str, bool, int]]) -> list[Change]:
    return [
        Change(
            n,
            host=fleets.row(host_id, revision=n, used=Resources(used, used, used)),
        )
        if not gone
        else Change(n, gone_host_id=host_id)
        for n, (host_id, gone, used) in enumerate(log, 1)
    ]


def rows_at(changes: list[Change], revision: int) -> dict[str, HostRow]:
    rows: dict[str, HostRow] = {}
    for change in changes[:revision]:
        if change.host is not None:
            rows[change.host.id] = change.host
        else:
            rows.pop(change.gone_host_id, None)
    return rows


@given(LOGS, st.data())
def test_pages_read_at_different_revisions_and_the_feed_end_in_the_newest_rows(
    log: list[tuple[str, bool, int]], data: st.DataObject
) -> None:
    changes = changes_of(log)
    first, second = sorted(data.draw(st.tuples(*[st.integers(0, len(log))] * 2)))
    split = data.draw(st.sampled_from(IDS))
    page_1 = [row for row in rows_at(changes, first).values() if row.id <= split]
    page_2 = [row for row in rows_at(changes, second).values() if row.id > split]
    fleet = Fleet(columns=1)
    fleet.host_replace_all([fleets.row("host-of-before"), *page_1, *page_2][1:], first)
    rest = changes[first:]
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        apply(fleet, rest[:size])
        rest = rest[size:]
    newest = rows_at(changes, len(changes)).values()
    assert shown(fleet) == {row.id: (row.revision, dataclasses.astuple(row.used)) for row in newest}
    assert fleet.revision == len(log)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("promise"), st.integers(0, 9), st.sampled_from(IDS)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.just("")),
        st.tuples(st.just("row"), st.integers(0, 9), st.sampled_from(IDS)),
        st.tuples(st.just("gone"), st.just(0), st.sampled_from(IDS)),
        st.tuples(st.just("wait"), st.integers(0, 3), st.just("")),
    ),
    max_size=60,
)


@given(STEPS)
def test_a_promise_stands_until_its_claim_shows_or_its_host_goes_or_it_lapses(
    steps: list[tuple[str, int, str]],
) -> None:
    fleet = Fleet(columns=1)
    model: dict[str, tuple[str, float]] = {}
    now_s = 0.0
    for revision, (what, number, host_id) in enumerate(steps, 1):
        instance_id = f"instance-{number}"
        if what == "promise" and host_id in fleet.ids:
            promise(fleet, instance_id, host_id, now_s)
            model[instance_id] = (host_id, now_s + DEBIT_S)
        elif what == "settle":
            apply(fleet, [Change(revision, settled_instance_id=instance_id)])
            model.pop(instance_id, None)
        elif what == "row":
            used = Resources(number, number, number)
            apply(fleet, [Change(revision, host=fleets.row(host_id, revision=revision, used=used))])
        elif what == "gone":
            apply(fleet, [Change(revision, gone_host_id=host_id)])
            model = {i: p for i, p in model.items() if p[0] != host_id}
        elif what == "wait":
            now_s += number * 0.7
            fleet.debit_expire(now_s)
            model = {i: p for i, p in model.items() if p[1] > now_s}
        expected: dict[str, int] = {}
        for on, _ in model.values():
            expected[on] = expected.get(on, 0) + 1
        assert promised(fleet) == expected
        assert fleet.debits == len(model)


@pytest.mark.parametrize("host_first", [True, False])
def test_a_claim_counts_once_after_its_commit_whichever_change_comes_first(
    host_first: bool,
) -> None:
    fleet = fleets.fleet_of(fleets.row(target=Resources(1, 10, 100)))
    promise(fleet, "instance", "host-a", 0)
    host_revision, instance_revision = (2, 3) if host_first else (3, 2)
    claimed = fleets.row(target=Resources(1, 10, 100), used=ONE, revision=host_revision)
    changes = [
        Change(host_revision, host=claimed),
        Change(instance_revision, settled_instance_id="instance"),
    ]
    apply(fleet, sorted(changes, key=lambda change: change.revision))
    assert fleet.hosts.taken[:, 0].tolist() == [1, 10, 100]
    assert fleet.revision == 3


def test_a_row_of_a_later_page_is_not_undone_by_what_the_feed_says_of_before() -> None:
    fleet = fleets.fleet_of(fleets.row(revision=5, used=ONE))
    apply(fleet, [Change(3, host=fleets.row(revision=3)), Change(4, gone_host_id="host-a")])
    assert shown(fleet) == {"host-a": (5, (1, 10, 100))}
    apply(fleet, [Change(6, gone_host_id="host-a")])
    assert shown(fleet) == {}


def test_several_promises_on_one_host_in_one_batch_all_count() -> None:
    fleet = fleets.fleet_of(fleets.row())
    slots = np.zeros(3, np.int64)
    fleet.debit_add(["a", "b", "c"], slots, resources=ONE, now_s=0)
    assert promised(fleet) == {"host-a": 3}


def test_a_new_load_forgets_hosts_that_are_gone_and_takes_rows_of_an_older_history() -> None:
    fleet = fleets.fleet_of(fleets.row("host-a", revision=900), fleets.row("host-b", revision=901))
    promise(fleet, "kept", "host-b", 0)
    promise(fleet, "lost", "host-a", 0)
    fleet.host_replace_all([fleets.row("host-b", revision=7), fleets.row("host-c", revision=8)], 9)
    assert shown(fleet) == {"host-b": (7, (0, 0, 0)), "host-c": (8, (0, 0, 0))}
    assert promised(fleet) == {"host-b": 1}
    assert fleet.revision == 9
