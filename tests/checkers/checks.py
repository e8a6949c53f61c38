"""All checkers by name, and the one call that runs them. Names are those of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.checkers import endings, ledger, log, placement, requests, sessions, watches
from tests.checkers.history import History, Violation
from tests.checkers.past import Past, Rule

SHOWN_MAX = 20

RULES: dict[str, Rule] = {
    "I1 one host": placement.one_host,
    "I2 room": ledger.room,
    "I3 claimed guests": placement.claimed_guests,
    "I4 ended creates": endings.ended_creates,
    "I5 held by the dead": ledger.held_by_the_dead,
    "I6 kept deletes": endings.kept_deletes,
    "I6 deleted as told": endings.deleted_as_told,
    "I6 called off as told": endings.called_off_as_told,
    "I7 repeated requests": requests.repeated,
    "I7 made once": requests.made_once,
    "I8 single effects": placement.single_effects,
    "I9 true rows": placement.true_rows,
    "I12 whole streams": watches.whole_streams,
    "I12 gapless log": log.gapless,
    "I12 last words": log.last_words,
    "I13 same state": watches.same_state,
    "I14 legal moves": log.legal_moves,
    "I14 agreed rows": log.agreed_rows,
    "I15 quotas": ledger.quotas,
    "I18 own writes": sessions.reads_own_writes,
    "I20 fenced starts": placement.fenced_starts,
    "I22 ended operations": endings.ended_operations,
    "I23 told reasons": endings.told_reasons,
    "I24 own project": watches.own_project,
    "empty audit": endings.empty_audit,
}


def _first(invariant: str, found: Iterator[str]) -> list[Violation]:
    """The first few: a broken rule often breaks for everybody."""
    return [Violation(invariant, text) for text, _ in zip(found, range(SHOWN_MAX), strict=False)]


def _checker(invariant: str, rule: Rule) -> Callable[[History], list[Violation]]:
    return lambda history: _first(invariant, rule(Past(history)))


CHECKERS: dict[str, Callable[[History], list[Violation]]] = {
    invariant: _checker(invariant, rule) for invariant, rule in RULES.items()
}


def check(history: History) -> list[Violation]:
    """What is broken, by all checkers over one reading of the history; empty if all holds."""
    past = Past(history)
    return [one for invariant, rule in RULES.items() for one in _first(invariant, rule(past))]
