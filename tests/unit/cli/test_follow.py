"""Following a watch, and talking to a console, through lost connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.flows.follow import TRIES_MAX, Pace, follow
from services.cli.flows.talk import Heard, Opening, talk
from services.cli.logic.refusal import Refusal

LOST = Refusal("UNAVAILABLE", "PEER_UNREACHABLE", "no answer")


@dataclass(frozen=True)
class Change:
    number: int
    resume_token: str


@dataclass
class Log:
    """Changes 1 to `length`; each opening gives as many as `cuts` says, then the refusal."""

    length: int
    cuts: list[int]
    refusal: Refusal = field(default_factory=lambda: LOST)
    opened_at: list[str] = field(default_factory=list)

    def open_at(self, token: str) -> Iterator[Change]:
        self.opened_at.append(token)
        begin = int(token or 0)
        count = self.cuts.pop(0) if self.cuts else self.length
        for number in range(begin + 1, min(begin + count, self.length) + 1):
            yield Change(number, str(number))
        if begin + count < self.length:
            raise self.refusal


def _pace(tries_max: int = TRIES_MAX, told: list[str] | None = None) -> Pace:
    return Pace(lambda _: None, (told if told is not None else []).append, tries_max)


def _numbers(log: Log, *, token: str = "") -> list[int]:
    following = follow(log.open_at, token=token, pace=_pace())
    return [next(following).number for _ in range(log.length - int(token or 0))]


@given(st.integers(1, 30), st.lists(st.integers(0, 8), max_size=30))
def test_whatever_cuts_it_off_nothing_is_left_out_or_told_twice(
    length: int, cuts: list[int]
) -> None:
    assert _numbers(Log(length, cuts)) == list(range(1, length + 1))


def test_it_goes_on_after_the_token_that_was_given() -> None:
    assert _numbers(Log(5, []), token="3") == [4, 5]


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("RESOURCE_EXHAUSTED", "WATCH_TOO_SLOW", "", {"resume_token": "2"}),
        Refusal("UNAVAILABLE", "API_STOPPING", "", {"resume_token": "2"}),
        Refusal("INTERNAL", "INTERNAL", "a proxy reset the stream"),
    ],
)
def test_a_reader_that_was_cut_off_goes_on_where_it_was(refusal: Refusal) -> None:
    log = Log(4, [2], refusal)
    assert _numbers(log) == [1, 2, 3, 4]
    assert log.opened_at == ["", "2"]


def test_a_token_that_is_too_old_begins_with_a_snapshot_and_says_so() -> None:
    told: list[str] = []
    gone = Refusal("OUT_OF_RANGE", "REVISION_COMPACTED", "", {"oldest_revision": "9"})
    log = Log(2, [0], gone)
    following = follow(log.open_at, token="1", pace=_pace(told=told))
    assert next(following).number == 1
    assert log.opened_at == ["1", ""]
    assert "snapshot" in told[0]


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("INVALID_ARGUMENT", "RESUME_TOKEN_INVALID", ""),
        Refusal("UNAUTHENTICATED", "TOKEN_EXPIRED", "", {"resume_token": "1"}),
        Refusal("INTERNAL", "INTERNAL_FAILURE", ""),
        Refusal("OUT_OF_RANGE", "REVISION_COMPACTED", ""),
    ],
)
def test_what_trying_again_cannot_mend_is_told(refusal: Refusal) -> None:
    with pytest.raises(Refusal) as refused:
        list(follow(Log(2, [0], refusal).open_at, token="", pace=_pace()))
    assert refused.value is refusal


def test_a_cloud_that_stays_silent_is_given_up_with_its_last_refusal() -> None:
    log = Log(1, [0] * 100)
    with pytest.raises(Refusal) as refused:
        list(follow(log.open_at, token="", pace=_pace(tries_max=5)))
    assert (refused.value.reason, len(log.opened_at)) == ("PEER_UNREACHABLE", 5)


@dataclass
class Guest:
    """A console of `written`, cut off after as many bytes as `cuts` says, left at its end."""

    written: bytes
    cuts: list[int]
    refusals: list[Refusal] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    shown: bytes = b""
    left: bool = False

    def line(self, opening: Opening) -> Iterator[Heard]:
        self.openings.append(opening)
        if self.refusals:
            raise self.refusals.pop(0)
        offset = opening.offset or 0
        yield Heard(b"", offset)
        end = offset + (self.cuts.pop(0) if self.cuts else len(self.written))
        for at in range(offset, min(end, len(self.written))):
            yield Heard(self.written[at : at + 1], at + 1)
        if end < len(self.written):
            raise LOST
        self.left = True

    def show(self, heard: Heard) -> None:
        self.shown += heard.content

    def talk(self, opening: Opening | None = None, told: list[str] | None = None) -> None:
        first = opening or Opening(0, write=True, take_over=False)
        pace = _pace(tries_max=20, told=told)
        talk(self.line, first, show=self.show, has_left=lambda: self.left, pace=pace)


@given(st.binary(min_size=1, max_size=40), st.lists(st.integers(0, 9), max_size=19))
def test_whatever_cuts_a_console_off_every_byte_is_shown_once(
    written: bytes, cuts: list[int]
) -> None:
    guest = Guest(written, cuts)
    guest.talk()
    assert guest.shown == written


def test_a_console_from_now_on_resumes_where_now_was() -> None:
    guest = Guest(b"abc", [1])
    guest.talk(Opening(None, write=True, take_over=False))
    assert [opening.offset for opening in guest.openings] == [None, 1]


def test_a_person_hears_once_that_the_connection_was_lost_and_that_it_is_back() -> None:
    told: list[str] = []
    Guest(b"abcd", [2, 0, 0]).talk(told=told)
    assert [line.split(";")[0] for line in told] == [
        "the connection is lost",
        "connected again",
        "the connection is lost",
        "connected again",
        "the connection is lost",
        "connected again",
    ]


@pytest.mark.parametrize("reason", ["CONSOLE_IN_USE", "CONSOLE_READ_ONLY", "CONSOLE_NOT_READY"])
def test_a_refusal_at_the_door_is_told_at_once(reason: str) -> None:
    guest = Guest(b"x", [], [Refusal("FAILED_PRECONDITION", reason, "")])
    with pytest.raises(Refusal) as refused:
        guest.talk()
    assert refused.value.reason == reason
    assert len(guest.openings) == 1


def test_an_unreachable_host_is_told_at_once_and_an_unreachable_cloud_is_waited_for() -> None:
    away = Guest(b"x", [], [Refusal("UNAVAILABLE", "HOST_UNREACHABLE", "")])
    with pytest.raises(Refusal):
        away.talk()
    guest = Guest(b"x", [], [LOST, LOST])
    guest.talk()
    assert guest.shown == b"x"


def _cut_then(refusal: Refusal) -> Callable[[Opening], Iterator[Heard]]:
    answers = iter([LOST, refusal])

    def line(opening: Opening) -> Iterator[Heard]:
        yield Heard(b"a", 1)
        raise next(answers)

    return line


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("ABORTED", "CONSOLE_TAKEN_OVER", ""),
        Refusal("OUT_OF_RANGE", "CONSOLE_OFFSET_GONE", ""),
    ],
)
def test_an_end_with_a_reason_is_no_lost_connection(refusal: Refusal) -> None:
    opening = Opening(0, write=True, take_over=False)
    with pytest.raises(Refusal) as refused:
        talk(
            _cut_then(refusal),
            opening,
            show=lambda _: None,
            has_left=lambda: False,
            pace=_pace(),
        )
    assert refused.value is refusal


def test_ones_own_cut_line_may_hold_the_keyboard_for_a_while() -> None:
    guest = Guest(b"abc", [1])
    held = Refusal("FAILED_PRECONDITION", "CONSOLE_IN_USE", "")
    line, openings = guest.line, guest.openings

    def busy_then_free(opening: Opening) -> Iterator[Heard]:
        if len(openings) == 1:
            openings.append(opening)
            raise held
        return line(opening)

    talk(
        busy_then_free,
        Opening(0, write=True, take_over=False),
        show=guest.show,
        has_left=lambda: guest.left,
        pace=_pace(tries_max=5),
    )
    assert guest.shown == b"abc"
