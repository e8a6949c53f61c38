"""An operation: the work that a mutation starts. Numbers of the enums are those of the public
contract.
"""

from enum import IntEnum


class OperationAction(IntEnum):
    """Which mutation it carries out."""

    CREATE_INSTANCE = 1
    DELETE_INSTANCE = 2
    CREATE_FLAVOR = 3
    DELETE_FLAVOR = 4
    IMPORT_IMAGE = 5
    DELETE_IMAGE = 6


class OperationState(IntEnum):
    """Whether it is under way, and how it ended."""

    RUNNING = 1
    DONE = 2
    FAILED = 3
    CANCELLED = 4


class Phase(IntEnum):
    """The stretch of work that it is in."""

    PLACING = 1
    BUILDING = 2
    REMOVING = 3
    ENDED = 4


FINISHED = frozenset(OperationState) - {OperationState.RUNNING}
