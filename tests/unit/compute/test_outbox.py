"""What a host says is numbered without a gap and bounded, and its newest word always arrives."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.compute.logic.guest import Claim
from services.compute.logic.observation import Observation
from services.compute.logic.outbox import UNACKNOWLEDGED_MAX, Outbox
from services.domain.instance import Power
from tests.examples import examples

A = Claim("a", 1)
B = Claim("b", 1)


def seen(claim: Claim, generation: int = 1) -> Observation:
    return Observation(claim, generation, Power.RUNNING)


def test_numbers_count_from_one_within_an_incarnation():
    outbox = Outbox()
    outbox.note(seen(A))
    outbox.note(seen(B))
    assert [(n.sequence, n.observation.claim) for n in outbox.take()] == [(1, A), (2, B)]
    outbox.begin()
    outbox.note(seen(A))
    assert [n.sequence for n in outbox.take()] == [1]


def test_the_same_word_is_not_said_twice():
    outbox = Outbox()
    outbox.note(seen(A))
    outbox.take()
    outbox.note(seen(A))
    assert outbox.take() == []
    outbox.note(seen(A, 2))
    assert [n.observation.applied_generation for n in outbox.take()] == [2]


def test_beyond_the_bound_the_newest_word_of_a_claim_replaces_the_older():
    outbox = Outbox()
    for n in range(UNACKNOWLEDGED_MAX):
        outbox.note(seen(Claim(f"i{n}", 1)))
    assert len(outbox.take()) == UNACKNOWLEDGED_MAX
    for generation in range(1, 50):
        outbox.note(seen(A, generation))
        outbox.note(seen(B, generation))
    assert outbox.take() == []
    outbox.acknowledge([1])
    assert [(n.sequence, n.observation) for n in outbox.take()] == [(257, seen(A, 49))]
    outbox.acknowledge([2])
    assert [(n.sequence, n.observation) for n in outbox.take()] == [(258, seen(B, 49))]


def test_what_was_heard_is_given_back_once():
    outbox = Outbox()
    outbox.note(seen(A))
    (numbered,) = outbox.take()
    assert outbox.acknowledge([1, 7]) == [numbered]
    assert outbox.acknowledge([1]) == []


def test_what_stays_unanswered_from_one_beat_to_the_next_is_said_again():
    outbox = Outbox()
    outbox.note(seen(A))
    (first,) = outbox.take()
    assert outbox.overdue() == []
    outbox.note(seen(B))
    outbox.take()
    assert outbox.overdue() == [first]
    outbox.acknowledge([1, 2])
    assert outbox.overdue() == []


def test_a_forgotten_claim_is_said_again_when_it_is_seen_again():
    outbox = Outbox()
    outbox.note(seen(A))
    outbox.take()
    outbox.forget(A)
    outbox.note(seen(A))
    assert len(outbox.take()) == 1


NOTES = st.tuples(st.sampled_from("abcdef"), st.integers(1, 9))
MOVES = st.lists(
    st.one_of(NOTES, st.just("take"), st.just("hear one"), st.just("hear all")), max_size=80
)


@settings(max_examples=examples(300), deadline=None)
@given(MOVES)
def test_the_last_word_on_every_claim_arrives_last_and_numbers_have_no_gap(moves):
    outbox = Outbox()
    said: dict[Claim, Observation] = {}
    arrived: list = []
    road: list = []
    for move in [*moves, "take", "hear all", "take"]:
        if move == "take":
            taken = outbox.take()
            arrived += taken
            road += taken
        elif move == "hear one":
            outbox.acknowledge([n.sequence for n in road[:1]])
            road = road[1:]
        elif move == "hear all":
            outbox.acknowledge([n.sequence for n in road])
            road = []
        else:
            name, generation = move
            said[Claim(name, 1)] = seen(Claim(name, 1), generation)
            outbox.note(said[Claim(name, 1)])
        assert len(road) <= UNACKNOWLEDGED_MAX
    assert [n.sequence for n in arrived] == list(range(1, len(arrived) + 1))
    assert {n.observation.claim: n.observation for n in arrived} == said
