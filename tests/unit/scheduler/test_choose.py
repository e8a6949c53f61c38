"""Goal: a batch gets what choosing one after another would give, and never more than there is.

Method: random fleets and batches against a slow reference that looks at every host for each
request.
"""

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.resources import Resources
from services.scheduler.logic.choose import choose
from services.scheduler.logic.fleet import DEBIT_S, Fleet, HostRow
from services.scheduler.logic.request import Outcome, Placed, Refused, Request, Shape
from services.scheduler.logic.weighers import Weights
from tests.examples import examples
from tests.unit.scheduler import fleets

PLAIN = fleets.shape(Resources(1, 0, 0))


def fits(row: HostRow, used: Resources, shape: Shape) -> bool:
    return (
        row.up
        and row.enabled
        and shape.architecture in row.architectures
        and row.hypervisor is not None
        and shape.image_kind in row.image_kinds
        and row.id not in shape.excluded_host_ids
        and (used + shape.resources).fits(row.target)
    )


def score(row: HostRow, used: Resources, weights: Weights) -> float:
    def free(target: int, taken: int) -> float:
        return (target - taken) / target if target else 0.0

    return (
        weights.cpu * free(row.target.vcpus, used.vcpus)
        + weights.ram * free(row.target.memory_mib, used.memory_mib)
        + weights.disk * free(row.target.disk_gib, used.disk_gib)
    )


def one_after_another(
    rows: list[HostRow], shape: Shape, count: int, weights: Weights
) -> Counter[str]:
    """How many copies each host gets when every choice looks at every host anew."""
    used = {row.id: row.used for row in rows}
    chosen: Counter[str] = Counter()
    for _ in range(count):
        fitting = [row for row in rows if fits(row, used[row.id], shape)]
        if not fitting:
            break
        best = max(fitting, key=lambda r: score(r, used[r.id] + shape.resources, weights))
        used[best.id] += shape.resources
        chosen[best.id] += 1
    return chosen


def levels(
    rows: list[HostRow], chosen: Counter[str], shape: Shape, weights: Weights
) -> list[float]:
    """The least score so far at each copy of each host: what makes two answers equally good."""
    found = []
    for row in rows:
        used, least = row.used, float("inf")
        for _ in range(chosen[row.id]):
            used += shape.resources
            least = min(least, score(row, used, weights))
            found.append(least)
    return sorted(found)


def named(rows: list[HostRow]) -> list[HostRow]:
    return [dataclasses.replace(row, id=f"host-{n}") for n, row in enumerate(rows)]


def hosts_of(outcomes: list[Outcome]) -> Counter[str]:
    return Counter(o.host_id for o in outcomes if isinstance(o, Placed))


@settings(max_examples=examples(400), deadline=None)
@given(
    st.one_of(
        st.lists(fleets.ABLE_ROWS, min_size=1, max_size=12), st.lists(fleets.ROWS, max_size=9)
    ),
    st.one_of(fleets.PLAIN_SHAPES, fleets.SHAPES),
    st.integers(1, 60),
    fleets.WEIGHTS,
)
def test_one_shape_is_placed_as_well_as_one_after_another(
    rows: list[HostRow], shape: Shape, count: int, weights: Weights
) -> None:
    rows = named(rows)
    outcomes = choose(
        fleets.fleet_of(*rows), fleets.requests(count, shape), weights=weights, now_s=0
    )
    expected = one_after_another(rows, shape, count, weights)
    assert hosts_of(outcomes).total() == expected.total()
    assert levels(rows, hosts_of(outcomes), shape, weights) == pytest.approx(
        levels(rows, expected, shape, weights), abs=1e-6
    )


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(st.one_of(fleets.ABLE_ROWS, fleets.ROWS), max_size=9),
    st.lists(st.one_of(fleets.PLAIN_SHAPES, fleets.SHAPES), min_size=1, max_size=5),
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fleets.WEIGHTS,
)
def test_no_batch_goes_over_a_target_and_a_refusal_means_that_no_host_fits(
    rows: list[HostRow], shapes: list[Shape], order: list[int], weights: Weights
) -> None:
    rows = named(rows)
    by_id = {row.id: row for row in rows}
    batch = [Request(f"i-{n}", 1, 0, shapes[which % len(shapes)]) for n, which in enumerate(order)]
    outcomes = choose(fleets.fleet_of(*rows), batch, weights=weights, now_s=0)
    assert [outcome.request for outcome in outcomes] == batch
    used = {row.id: row.used for row in rows}
    first_seen = {o.request.shape: n for n, o in reversed(list(enumerate(outcomes)))}
    for outcome in sorted(outcomes, key=lambda o: first_seen[o.request.shape]):
        shape = outcome.request.shape
        if isinstance(outcome, Placed):
            assert fits(by_id[outcome.host_id], used[outcome.host_id], shape)
            used[outcome.host_id] += shape.resources
        else:
            assert not any(fits(row, used[row.id], shape) for row in rows)
            assert outcome.only_promised == any(fits(row, row.used, shape) for row in rows)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(fleets.ABLE_ROWS, min_size=1, max_size=15),
    fleets.PLAIN_SHAPES,
    st.integers(1, 20),
    fleets.WEIGHTS,
)
def test_runners_up_are_the_best_hosts_that_could_still_take_one(
    rows: list[HostRow], shape: Shape, count: int, weights: Weights
) -> None:
    rows = named(rows)
    outcomes = choose(
        fleets.fleet_of(*rows), fleets.requests(count, shape), weights=weights, now_s=0
    )
    chosen = hosts_of(outcomes)
    used = {
        row.id: Resources(
            row.used.vcpus + chosen[row.id] * shape.resources.vcpus,
            row.used.memory_mib + chosen[row.id] * shape.resources.memory_mib,
            row.used.disk_gib + chosen[row.id] * shape.resources.disk_gib,
        )
        for row in rows
    }
    after = {
        row.id: score(row, used[row.id] + shape.resources, weights)
        for row in rows
        if fits(row, used[row.id], shape)
    }
    for outcome in outcomes:
        if isinstance(outcome, Placed):
            best = sorted((after[i] for i in after if i != outcome.host_id), reverse=True)[:3]
            assert [after[i] for i in outcome.runner_up_ids] == pytest.approx(best, abs=1e-6)
            assert outcome.host_id not in outcome.runner_up_ids


def test_the_same_fleet_and_requests_give_the_same_answer_whatever_the_order_of_loading() -> None:
    rows = [fleets.row(f"host-{n}") for n in range(50)]
    batch = fleets.requests(7, PLAIN)
    answers = [
        choose(fleets.fleet_of(*order), batch, weights=Weights(), now_s=0)
        for order in (rows, rows, rows[::-1])
    ]
    assert answers[0] == answers[1]
    assert set(hosts_of(answers[0])) == set(hosts_of(answers[2]))


def test_equally_good_hosts_are_told_apart_by_the_instance() -> None:
    rows = [fleets.row(f"host-{n}") for n in range(100)]
    chosen = {
        hosts_of(
            choose(
                fleets.fleet_of(*rows),
                fleets.requests(1, PLAIN, prefix=str(n)),
                weights=Weights(),
                now_s=0,
            )
        ).most_common()[0][0]
        for n in range(40)
    }
    assert len(chosen) > 20


def test_positive_weights_spread_and_negative_ones_pack() -> None:
    rows = [fleets.row(f"host-{n}") for n in range(10)]
    for weight, hosts in ((1.0, 10), (-1.0, 2)):
        weights = Weights(weight, 0, 0)
        outcomes = choose(
            fleets.fleet_of(*rows), fleets.requests(10, PLAIN), weights=weights, now_s=0
        )
        assert len(hosts_of(outcomes)) == hosts


def test_one_after_another_packs_and_spreads_as_one_batch_does() -> None:
    for weight, hosts in ((1.0, 10), (-1.0, 2)):
        fleet = fleets.fleet_of(*(fleets.row(f"host-{n}") for n in range(10)))
        chosen = set()
        for request in fleets.requests(10, PLAIN):
            chosen |= set(
                hosts_of(choose(fleet, [request], weights=Weights(weight, 0, 0), now_s=0))
            )
        assert len(chosen) == hosts


def test_what_was_promised_is_not_promised_again_until_the_promise_lapses() -> None:
    fleet = fleets.fleet_of(fleets.row(target=Resources(1, 0, 0)))
    first, second = fleets.requests(2, PLAIN)
    (placed,) = choose(fleet, [first], weights=Weights(), now_s=0)
    (refused,) = choose(fleet, [second], weights=Weights(), now_s=DEBIT_S / 2)
    assert isinstance(placed, Placed)
    assert isinstance(refused, Refused)
    assert refused.only_promised
    (later,) = choose(fleet, [second], weights=Weights(), now_s=DEBIT_S)
    assert isinstance(later, Placed)


def test_an_instance_that_asks_again_gives_its_promise_back_first() -> None:
    fleet = fleets.fleet_of(fleets.row(target=Resources(1, 0, 0)))
    (request,) = fleets.requests(1, PLAIN)
    for _ in range(3):
        (outcome,) = choose(fleet, [request], weights=Weights(), now_s=0)
        assert isinstance(outcome, Placed)
    assert fleet.debits == 1


def test_an_empty_fleet_refuses() -> None:
    (outcome,) = choose(Fleet(), fleets.requests(1, PLAIN), weights=Weights(), now_s=0)
    assert isinstance(outcome, Refused)
    assert (outcome.hosts, outcome.only_promised) == (0, False)


def python_steps(work: Callable[[], Any]) -> int:
    """How many bytecode instructions Python executes for `work`, in whatever module."""
    steps = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        steps += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize("asked", [Resources(1, 512, 10), Resources(9, 0, 0)], ids=["fits", "not"])
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_the_work_in_python_does_not_grow_with_the_hosts(
    asked: Resources, count: int, weight: float
) -> None:
    def steps(hosts: int) -> int:
        fleet = fleets.fleet_of(
            *(fleets.row(f"host-{n}", used=Resources(n % 7, n % 11, n % 13)) for n in range(hosts))
        )
        batch = fleets.requests(count, fleets.shape(asked))
        return python_steps(
            lambda: choose(fleet, batch, weights=Weights(weight, weight, weight), now_s=0)
        )

    assert steps(3200) < 1.5 * steps(50)
