"""Following a watch through lost connections: it goes on after the last message that was heard.

Owns when it is opened again and from where. Does not own what the events mean.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from services.cli.flows.ports import Event, Tell
from services.cli.logic.refusal import Refusal

# Each is as good as a lost connection: the token goes on where it ended. INTERNAL and UNKNOWN as a
# reason are a proxy's: a refusal of stead's own has a name.
CODES = frozenset({"UNAVAILABLE", "CANCELLED"})
REASONS = frozenset({"WATCH_TOO_SLOW", "API_STOPPING", "INTERNAL", "UNKNOWN"})
COMPACTED = "REVISION_COMPACTED"
TRIES_MAX = 60
FIRST_S = 0.1
MAX_S = 1.0
Told = TypeVar("Told", bound=Event)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a lost connection is tried again without a word from it, what waits between two
    tries, and who hears of them.
    """

    sleep: Callable[[float], None]
    tell: Tell
    tries_max: int = TRIES_MAX

    def rest(self, tries: int) -> None:
        """Waits, the longer the more tries there were."""
        self.sleep(min(MAX_S, FIRST_S * tries))


def follow(open_at: Callable[[str], Iterator[Told]], *, token: str, pace: Pace) -> Iterator[Told]:
    """Every event of `open_at(token)`, and of what is opened after a lost connection, in order;
    ends only with the watch itself.

    Where the token is too old it begins with a new snapshot, and says so. Raises Refusal, also the
    last of many tries without one event.
    """
    tries = 0
    while True:
        tries += 1
        try:
            for event in open_at(token):
                tries = 1
                token = event.resume_token or token
                yield event
        except Refusal as refusal:
            if refusal.reason == COMPACTED and token:
                pace.tell("what happened meanwhile is no longer kept: beginning with a snapshot")
                token = ""
            elif not _is_resumable(refusal) or tries >= pace.tries_max:
                raise
            token = refusal.metadata.get("resume_token") or token
        pace.rest(tries)


def _is_resumable(refusal: Refusal) -> bool:
    return refusal.reason in REASONS or refusal.code in CODES
