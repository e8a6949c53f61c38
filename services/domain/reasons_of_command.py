"""The reasons that only the command `stead` gives, about this machine and the cloud on it."""

from services.domain.reason import Code, Met, Reason

_INVALID = (Code.INVALID_ARGUMENT,)
_AGAIN = (Code.UNAVAILABLE,)
_TAKEN = (Code.ABORTED,)


def _command(name: str, codes: tuple[Code, ...], meaning: str, remedy: str) -> Reason:
    return Reason(name, Met.COMMAND, codes, meaning, remedy)


COMMAND = (
    _command(
        "CLOUD_NOT_RUNNING",
        (Code.UNAVAILABLE, Code.FAILED_PRECONDITION),
        "No cloud of this home runs.",
        "`stead up --detach`",
    ),
    _command(
        "WAIT_TIMED_OUT",
        (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED),
        "What was waited for did not come in time.",
        "Wait longer with --timeout; the work goes on.",
    ),
    _command(
        "STATE_UNREACHABLE",
        (Code.FAILED_PRECONDITION,),
        "The instance ended in a state from which the awaited one cannot come.",
        "`stead instance show`",
    ),
    _command(
        "FILE_UNREADABLE",
        _INVALID,
        "A file that was named cannot be read.",
        "Name one that can.",
    ),
    _command(
        "SYSTEM_REFUSED",
        (Code.PERMISSION_DENIED, Code.INTERNAL),
        "The operating system refused; its words follow.",
        "See the file that is named.",
    ),
    _command(
        "SIGNING_KEY_MISSING",
        (Code.UNAUTHENTICATED,),
        "This home has no key to sign tokens with.",
        "`stead up` makes it; or use the home of the cloud that is meant.",
    ),
    _command(
        "OPERATION_FAILED",
        (Code.INTERNAL, Code.CANCELLED),
        "The operation ended without success and without an error of its own.",
        "`stead operation show`",
    ),
    _command(
        "PORT_TAKEN",
        _TAKEN,
        "Another program listens on the port.",
        "`stead up --listen 127.0.0.1:PORT`",
    ),
    _command(
        "HOME_IN_USE",
        _TAKEN,
        "A cloud of this home runs already, with other settings.",
        "`stead down` first, or another home: STEAD_HOME=FOLDER.",
    ),
    _command(
        "HOME_UNUSABLE",
        _INVALID,
        "The home's folders cannot be made.",
        "Another home: STEAD_HOME=FOLDER.",
    ),
    _command(
        "HOME_NOT_YOURS",
        (Code.PERMISSION_DENIED,),
        "The home belongs to somebody else.",
        "Another home: STEAD_HOME=FOLDER.",
    ),
    _command(
        "HOME_NOT_EMPTY",
        _INVALID,
        "The folder holds other things, and no cloud.",
        "An empty folder, or none: STEAD_HOME=FOLDER.",
    ),
    _command(
        "HOME_PATH_TOO_LONG",
        _INVALID,
        "A unix socket under the home could not be bound: its path is too long.",
        "A shorter home: STEAD_HOME=FOLDER.",
    ),
    _command(
        "HOME_NEWER",
        _INVALID,
        "A later stead made this home.",
        "That release, or another home.",
    ),
    _command(
        "HOME_BROKEN",
        _AGAIN,
        "A file of the home cannot be read as what it should be.",
        "Restore it from a copy, or begin with another home.",
    ),
    _command(
        "ENGINE_MISSING",
        _AGAIN,
        "A program that the cloud stands on is not installed.",
        "Install what the message names.",
    ),
    _command(
        "ENGINE_FAILED",
        _AGAIN,
        "A program that the cloud stands on failed; its words follow.",
        "See logs/ in the home.",
    ),
    _command(
        "START_FAILED",
        _AGAIN,
        "A service does not start; its last words follow.",
        "See logs/ in the home.",
    ),
    _command(
        "START_TIMED_OUT",
        _AGAIN,
        "The cloud was not ready in time.",
        "See logs/ in the home; try again on a quieter machine.",
    ),
    _command(
        "SUPERVISOR_UNKNOWN",
        _AGAIN,
        "A supervisor is only just starting.",
        "Try again.",
    ),
    _command(
        "SUPERVISOR_FAILED",
        (Code.INTERNAL,),
        "The supervisor failed in a way that it should not.",
        "See logs/ in the home.",
    ),
    _command(
        "GUESTS_LEFT",
        _AGAIN,
        "Guests are left that could not be removed; nothing was stopped.",
        "`stead instance list`, then again.",
    ),
)
