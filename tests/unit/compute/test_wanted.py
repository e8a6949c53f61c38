"""Whatever the roads do to views and commands, a host never goes back to an older wish."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.compute.logic.guest import Claim
from services.compute.logic.wanted import ENDED_MAX, Image, Spec, View, Wanted, Wishes
from services.domain.instance import Power
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources
from tests.examples import examples

SPEC = Spec(
    present=True,
    power=Power.RUNNING,
    boot=1,
    project_id="p",
    name="n",
    resources=Resources(1, 64, 1),
    image=Image("d", 1, ImageKind.RAW, Architecture.X86_64),
    ssh_public_keys=(),
    user_data=b"",
)
A5 = Claim("a", 5)
A9 = Claim("a", 9)


def wish(claim: Claim, revision: int, *, present: bool = True) -> Wanted:
    return Wanted(claim, revision, revision, replace(SPEC, present=present))


def view(revision: int, *wanted: Wanted, incarnation: int = 1) -> View:
    return View("c", "h", incarnation, revision, wanted)


def wishes_of(*wanted: Wanted, revision: int = 10) -> Wishes:
    wishes = Wishes()
    wishes.take_view(view(revision, *wanted))
    return wishes


def test_before_the_first_view_every_command_is_dropped():
    wishes = Wishes()
    assert wishes.take_command(0, [wish(A5, 6)]) == set()
    assert wishes.take_command(1, [wish(A5, 6)]) == set()
    assert wishes.instance_ids() == []


def test_a_command_of_another_incarnation_is_dropped():
    wishes = wishes_of()
    assert wishes.take_command(2, [wish(A5, 11)]) == set()
    assert wishes.of("a") == ()


@pytest.mark.parametrize("revision", [9, 10])
def test_a_command_not_above_the_view_is_dropped(revision):
    wishes = wishes_of()
    assert wishes.take_command(1, [wish(A5, revision)]) == set()


def test_a_command_not_above_what_is_known_of_its_claim_is_dropped():
    wishes = wishes_of()
    assert wishes.take_command(1, [wish(A5, 12, present=False)]) == {"a"}
    assert wishes.take_command(1, [wish(A5, 11)]) == set()
    assert wishes.take_command(1, [wish(A5, 12, present=False)]) == set()
    assert wishes.get(A5) == wish(A5, 12, present=False)


def test_the_word_about_a_leaving_claim_counts_behind_a_newer_one_about_the_next_claim():
    wishes = wishes_of(wish(A5, 6))
    assert wishes.take_command(1, [wish(A9, 12)]) == {"a"}
    assert wishes.take_command(1, [wish(A5, 11, present=False)]) == {"a"}
    assert [w.claim for w in wishes.of("a")] == [A5, A9]


def test_absence_from_a_view_ends_only_what_is_not_newer():
    wishes = wishes_of(wish(A5, 6))
    wishes.take_command(1, [wish(A9, 12)])
    assert wishes.take_view(view(11)) == {"a"}
    assert wishes.of("a") == (wish(A9, 12),)
    wishes.take_view(view(12))
    assert wishes.of("a") == ()


def test_an_older_wish_in_a_view_does_not_replace_a_newer_command():
    wishes = wishes_of(wish(A5, 6))
    wishes.take_command(1, [wish(A5, 12, present=False)])
    wishes.take_view(view(11, wish(A5, 6)))
    assert wishes.get(A5) == wish(A5, 12, present=False)


def test_a_late_command_does_not_bring_back_an_ended_claim():
    wishes = wishes_of()
    wishes.take_command(1, [wish(A5, 12, present=False)])
    wishes.end(A5)
    assert wishes.take_command(1, [wish(A5, 11)]) == set()
    assert wishes.take_command(1, [wish(A5, 12, present=False)]) == set()
    wishes.take_view(view(11, wish(A5, 11)))
    assert wishes.of("a") == ()


def test_the_known_revision_is_the_newest_of_views_and_commands():
    wishes = wishes_of(revision=10)
    assert wishes.known_revision == 10
    wishes.take_command(1, [wish(A5, 14)])
    assert wishes.known_revision == 14
    wishes.take_view(view(12))
    assert wishes.known_revision == 14


def test_many_ended_claims_ask_for_a_view_which_forgets_them():
    wishes = wishes_of()
    for n in range(ENDED_MAX + 1):
        claim = Claim(f"i{n}", 11 + n)
        wishes.take_command(1, [wish(claim, 11 + n)])
        wishes.end(claim)
    assert wishes.crowded
    wishes.take_view(view(10_000))
    assert not wishes.crowded
    assert wishes.claims() == []


@st.composite
def histories(draw):
    """The claims after each commit, and messages about them in any order, late and repeated."""
    live: dict[Claim, Wanted] = {}
    truth: list[dict[Claim, Wanted]] = [{}]
    for revision in range(1, draw(st.integers(1, 14)) + 1):
        claim = draw(st.sampled_from([Claim("a", 1), Claim("a", 2), Claim("b", 1)]))
        known = live.get(claim)
        if known is None:
            live = {**live, claim: wish(claim, revision)}
        elif known.spec.present:
            live = {**live, claim: wish(claim, revision, present=False)}
        else:
            live = {c: w for c, w in live.items() if c != claim}
        truth.append(live)
    messages = [("view", r) for r in range(len(truth))]
    messages += [("command", r) for r in range(1, len(truth))]
    return truth, draw(st.lists(st.sampled_from(messages), max_size=40))


@settings(max_examples=examples(400), deadline=None)
@given(histories())
def test_no_order_of_messages_makes_a_claim_older_than_it_was(history):
    truth, messages = history
    newest = {w.revision: w for claims in truth for w in claims.values()}
    wishes = Wishes()
    wishes.take_view(view(0))
    seen: dict[Claim, int] = {}
    viewed = 0
    for kind, revision in messages:
        if kind == "view":
            # A stream keeps its order: views come as they were read.
            viewed = max(viewed, revision)
            wishes.take_view(view(viewed, *truth[viewed].values()))
        elif revision in newest:
            wishes.take_command(1, [newest[revision]])
        for claim in [w.claim for i in wishes.instance_ids() for w in wishes.of(i)]:
            known = wishes.get(claim)
            assert known is not None
            assert known.revision >= seen.get(claim, 0)
            assert known.revision > viewed or known == truth[viewed].get(claim)
            seen[claim] = known.revision
    wishes.take_view(view(len(truth) - 1, *truth[-1].values()))
    assert {w.claim: w for i in wishes.instance_ids() for w in wishes.of(i)} == truth[-1]
