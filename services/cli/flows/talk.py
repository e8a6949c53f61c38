"""Talking to a guest's console through lost connections: it is opened again at the offset up to
which everything was shown, and the keyboard is not taken from anybody a second time.

Owns that no byte of the guest is lost or shown twice. What was typed in the moment of a loss may be
lost: nobody can know whether the guest had read it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from services.cli.flows.follow import Pace
from services.cli.logic.refusal import Refusal

LOST = frozenset({"UNAVAILABLE", "CANCELLED"})
# Our own line that was cut off holds the keyboard until its end is noticed.
IN_USE = "CONSOLE_IN_USE"
UNREACHABLE = "PEER_UNREACHABLE"
# The cloud looks after a silent line once a minute: that is longer than other losses last.
OWN_LINE_TRIES = 2


@dataclass(frozen=True, slots=True)
class Opening:
    """How a console is opened. Without an offset it begins with what comes from now on."""

    offset: int | None
    write: bool
    take_over: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """What the guest wrote, up to `end_offset`; the first one of a line has no bytes."""

    content: bytes
    end_offset: int


def talk(
    line: Callable[[Opening], Iterator[Heard]],
    opening: Opening,
    *,
    show: Callable[[Heard], None],
    has_left: Callable[[], bool],
    pace: Pace,
) -> None:
    """Shows what the guest writes until the caller has left.

    Raises Refusal, also the last of many tries without an answer.
    """
    tries, opened, lost = 0, False, False
    while True:
        tries += 1
        try:
            for heard in line(opening):
                if lost:
                    pace.tell("connected again; nothing the guest wrote was lost")
                tries, opened, lost = 1, True, False
                # Whoever opened it meanwhile did so by right.
                opening = replace(opening, offset=heard.end_offset, take_over=False)
                show(heard)
        except Refusal as refusal:
            if has_left():
                return
            tries_max = pace.tries_max * (OWN_LINE_TRIES if refusal.reason == IN_USE else 1)
            if tries >= tries_max or not _may_come_back(refusal, opened):
                raise
        if has_left():
            return
        if opened and not lost:
            pace.tell("the connection is lost; trying again (Ctrl-] leaves)")
            lost = True
        pace.rest(tries)


def _may_come_back(refusal: Refusal, opened: bool) -> bool:
    if opened:
        return refusal.code in LOST or refusal.reason == IN_USE
    return refusal.reason == UNREACHABLE
