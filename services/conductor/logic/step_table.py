"""The steps of every operation, as a table that the conductor runs from.

One row says: of this action in this phase, when this holds, this step is taken; what it does, how
it is undone or why it needs no undo, how long the phase may last, how often it is looked at. Of the
rows of a phase the first that holds counts. docs/operations.md shows the table (scripts/docs.py).
The deadline goes before all else, a fenced host too: an operation that may be moved on for ever
would have no end. A build or a removal that no host holds has no row but its deadline: no flow
leaves one so, and such rows are for the audit and an admin, not for a step that guesses.
Does not take steps (steps, flows/advance) nor write what an undo says (lifecycle, overdue).
Source: MECHANICS B3, B5, C3, C6.
"""

from dataclasses import dataclass
from enum import Enum

from services.domain.operation import OperationAction, Phase


class StepKind(Enum):
    """What can be done for an operation. Each may be repeated at any time; that is only waste."""

    PLACE = "Place"
    COMMAND = "Command"
    LET_GO = "LetGo"
    MOVE_ON = "MoveOn"
    GIVE_UP = "GiveUp"
    WAIT = "Wait"
    ACCEPT = "Accept"


class When(Enum):
    """What must hold for a row to count."""

    OVERDUE = "its deadline has passed"
    HOST_DOWN = "its host is DOWN"
    HOST_FENCED = "its host is DOWN and fenced"
    HELD = "a host holds it"
    UNHELD = "no host holds it"
    AT_ONCE = "with its acceptance"


class Undo(Enum):
    """How what a step began is taken back: rows that say what is still to be undone, written with
    the failure and followed by the host of the claim at each view and beat until it confirms.
    """

    NONE = "none"
    CLAIM_LEAVES = "the claim is LEAVING with discard; its host erases, and its word removes it"
    WISH_RETURNS = "what is wanted is again what was last seen, under a new generation"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long until the next look: `first_s` while the operation is young, then doubling up to
    `most_s`.
    """

    first_s: float
    most_s: float


# A lost place message costs 1 s, at any age: a scheduler that comes back is asked at once. A lost
# command costs 2 s while the operation is young. Source: MECHANICS B5.
LOOK_AGAIN_FIRST_S = 2.0
LOOK_AGAIN_MAX_S = 60.0
PLACE_AGAIN_S = 1.0
YOUNG_S = 60.0
# Every message of which makes a lane's round late does not make it look lost.
PLACING_PACE = Pace(PLACE_AGAIN_S, PLACE_AGAIN_S)
USUAL_PACE = Pace(LOOK_AGAIN_FIRST_S, LOOK_AGAIN_MAX_S)
NO_PACE = Pace(0.0, 0.0)


class Limit(Enum):
    """Which deadline of the settings a phase has."""

    NONE = ""
    PLACING = "deadline_placing_s"
    BUILDING = "deadline_building_s"
    REMOVING = "deadline_removing_s"
    SWITCHING = "deadline_switching_s"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `undone` says how the undo ends, or why none is needed."""

    action: OperationAction
    phase: Phase
    when: When
    step: StepKind
    does: str
    undo: Undo
    undone: str
    limit: Limit
    pace: Pace


def _stretch(
    action: OperationAction,
    phase: Phase,
    limit: Limit,
    *lines: tuple[When, StepKind, str, Undo, str],
) -> tuple[Row, ...]:
    pace = PLACING_PACE if phase is Phase.PLACING else USUAL_PACE
    return tuple(Row(action, phase, *line, limit, pace) for line in lines)


_ASKS = (
    When.UNHELD,
    StepKind.PLACE,
    "asks the schedulers for a host; a decision makes a claim, a refusal fails it",
    Undo.NONE,
    "nothing of it is anywhere before the claim is committed",
)
_TELLS = "tells the host of the claim what is wanted; "
_NOT_PLACED = (
    When.OVERDUE,
    StepKind.GIVE_UP,
    "FAILED; the instance is in ERROR",
    Undo.NONE,
    "no host has anything of it",
)


def _switch(action: OperationAction, phase: Phase) -> tuple[Row, ...]:
    return _stretch(
        action,
        phase,
        Limit.SWITCHING,
        (
            When.OVERDUE,
            StepKind.GIVE_UP,
            "FAILED; the instance is as it was last seen",
            Undo.WISH_RETURNS,
            "a host that comes back applies the newest generation only",
        ),
        (
            When.HOST_DOWN,
            StepKind.WAIT,
            "waits for the host, until the deadline",
            Undo.NONE,
            "it does nothing",
        ),
        (
            When.HELD,
            StepKind.COMMAND,
            _TELLS + "its report that it is applied, or a failure, ends it",
            Undo.WISH_RETURNS,
            "on a failure too: state and wish are what its host sees",
        ),
    )


_MOVES = (
    When.HOST_FENCED,
    StepKind.MOVE_ON,
    "back to PLACING; the claim is LEAVING with discard",
    Undo.CLAIM_LEAVES,
    "its host runs nothing; should it come back, it erases what it began",
)
_EVACUATES = OperationAction.EVACUATE_INSTANCE

ROWS: tuple[Row, ...] = (
    *_stretch(OperationAction.CREATE_INSTANCE, Phase.PLACING, Limit.PLACING, _NOT_PLACED, _ASKS),
    *_stretch(
        OperationAction.CREATE_INSTANCE,
        Phase.BUILDING,
        Limit.BUILDING,
        (
            When.OVERDUE,
            StepKind.GIVE_UP,
            "FAILED; the instance is in ERROR, its claim LEAVING with discard",
            Undo.CLAIM_LEAVES,
            "silence is no confirmation: it is built nowhere else before its host has spoken",
        ),
        _MOVES,
        (
            When.HELD,
            StepKind.COMMAND,
            _TELLS + "its report that it runs ends it, its word that nothing is there tries on",
            Undo.CLAIM_LEAVES,
            "a host that cannot build it erases what there is and confirms absence; the claim goes",
        ),
    ),
    *_stretch(
        OperationAction.DELETE_INSTANCE,
        Phase.REMOVING,
        Limit.REMOVING,
        (
            When.OVERDUE,
            StepKind.LET_GO,
            "DONE: DELETED now, the claim LEAVING with discard until its host confirms",
            Undo.NONE,
            "the owner wants no way back",
        ),
        (
            When.HOST_DOWN,
            StepKind.LET_GO,
            "DONE: DELETED now, the claim LEAVING with discard until its host confirms",
            Undo.NONE,
            "the owner wants no way back",
        ),
        (
            When.HELD,
            StepKind.COMMAND,
            _TELLS + "its word that nothing is there ends it",
            Undo.NONE,
            "the owner wants no way back; what is half removed is removed further",
        ),
    ),
    *_stretch(_EVACUATES, Phase.PLACING, Limit.PLACING, _NOT_PLACED, _ASKS),
    *_stretch(
        _EVACUATES,
        Phase.BUILDING,
        Limit.BUILDING,
        (
            When.OVERDUE,
            StepKind.GIVE_UP,
            "FAILED; in ERROR, and may be evacuated again; its claim is LEAVING with discard",
            Undo.CLAIM_LEAVES,
            "what was built is of the image alone; the old disk stays on the old host",
        ),
        _MOVES,
        (
            When.HELD,
            StepKind.COMMAND,
            _TELLS
            + "its report that it is applied ends it, its word that nothing is there tries on",
            Undo.CLAIM_LEAVES,
            "a host that cannot build it erases what there is and confirms absence; the claim goes",
        ),
    ),
    *_switch(OperationAction.START_INSTANCE, Phase.STARTING),
    *_switch(OperationAction.STOP_INSTANCE, Phase.STOPPING),
    *_switch(OperationAction.REBOOT_INSTANCE, Phase.REBOOTING),
    *_switch(OperationAction.PAUSE_INSTANCE, Phase.PAUSING),
    *_switch(OperationAction.UNPAUSE_INSTANCE, Phase.UNPAUSING),
    *_switch(OperationAction.SUSPEND_INSTANCE, Phase.SUSPENDING),
    *_switch(OperationAction.RESUME_INSTANCE, Phase.RESUMING),
)

# Done with their acceptance: one commit, whole or not at all, and nobody outside is told.
AT_ONCE: frozenset[OperationAction] = frozenset(OperationAction) - {row.action for row in ROWS}


def accepted_row(action: OperationAction) -> Row:
    """The one row of an action that is done with its acceptance."""
    return Row(
        action,
        Phase.ENDED,
        When.AT_ONCE,
        StepKind.ACCEPT,
        "one commit that makes it, with its operation that has ended",
        Undo.NONE,
        "one commit is whole or not there",
        Limit.NONE,
        NO_PACE,
    )


def rows_of(action: OperationAction, phase: Phase) -> tuple[Row, ...]:
    """The rows of one phase, in their order; none where the phase never is."""
    return _BY_PHASE.get((action, phase), ())


_BY_PHASE: dict[tuple[OperationAction, Phase], tuple[Row, ...]] = {
    at: tuple(row for row in ROWS if (row.action, row.phase) == at)
    for at in dict.fromkeys((row.action, row.phase) for row in ROWS)
}


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each phase may last; the time that a guest has to go down comes on top."""

    placing_s: float = 600.0
    building_s: float = 1800.0
    removing_s: float = 600.0
    switching_s: float = 300.0

    def of(self, action: OperationAction, phase: Phase) -> float:
        """That of a phase; 0 where nothing is left to do."""
        rows = rows_of(action, phase)
        return self._of_limit(rows[0].limit) if rows else 0.0

    def _of_limit(self, limit: Limit) -> float:
        return {
            Limit.NONE: 0.0,
            Limit.PLACING: self.placing_s,
            Limit.BUILDING: self.building_s,
            Limit.REMOVING: self.removing_s,
            Limit.SWITCHING: self.switching_s,
        }[limit]


USUAL_DEADLINES = Deadlines()
# Looked at as often at any age.
STEADY_PHASES = frozenset(row.phase for row in ROWS if row.pace.first_s == row.pace.most_s)
