"""An operation: the work that a mutation starts. Numbers of the enums are those of the public
contract.
"""

from enum import IntEnum

from services.domain.condition import Condition


class OperationAction(IntEnum):
    """Which mutation it carries out."""

    CREATE_INSTANCE = 1
    DELETE_INSTANCE = 2
    CREATE_FLAVOR = 3
    DELETE_FLAVOR = 4
    IMPORT_IMAGE = 5
    DELETE_IMAGE = 6
    UPDATE_INSTANCE = 7
    START_INSTANCE = 8
    STOP_INSTANCE = 9
    REBOOT_INSTANCE = 10
    ENABLE_HOST = 11
    DISABLE_HOST = 12
    CREATE_KEY_PAIR = 13
    DELETE_KEY_PAIR = 14
    CREATE_PROJECT = 15
    UPDATE_PROJECT = 16
    DELETE_PROJECT = 17
    UPDATE_QUOTA = 18
    EVACUATE_INSTANCE = 19
    FENCE_HOST = 20
    REMOVE_HOST = 21
    PAUSE_INSTANCE = 22
    UNPAUSE_INSTANCE = 23
    SUSPEND_INSTANCE = 24
    RESUME_INSTANCE = 25
    DISCARD_GUEST = 30


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
    STARTING = 5
    STOPPING = 6
    REBOOTING = 7
    PAUSING = 8
    UNPAUSING = 9
    SUSPENDING = 10
    RESUMING = 11


# What they are about, a host or any project, is not for tenants to know. Source: MECHANICS E7.
OF_ADMINS = frozenset(
    {
        OperationAction.ENABLE_HOST,
        OperationAction.DISABLE_HOST,
        OperationAction.FENCE_HOST,
        OperationAction.REMOVE_HOST,
        OperationAction.CREATE_PROJECT,
        OperationAction.UPDATE_PROJECT,
        OperationAction.DELETE_PROJECT,
        OperationAction.UPDATE_QUOTA,
        OperationAction.DISCARD_GUEST,
    }
)
FINISHED = frozenset(OperationState) - {OperationState.RUNNING}


def is_cancellable(action: OperationAction, phase: Phase) -> bool:
    """Whether it can be called off: only while nothing of it is done on any host."""
    return action is OperationAction.CREATE_INSTANCE and phase is Phase.PLACING


def shown_to(*, cloud_admin: bool) -> tuple[Condition, ...]:
    """What an operation must be for such a caller to see it at all."""
    if cloud_admin:
        return ()
    return (Condition("action", tuple(str(a.value) for a in sorted(OF_ADMINS)), negated=True),)
