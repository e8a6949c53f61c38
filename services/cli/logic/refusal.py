"""A "no" as the command shows it: the code, the reason, the exit code, and what to do about it."""

from dataclasses import dataclass, field
from typing import Any

from services.domain import errors
from services.domain.reasons import REASONS


class Exit:
    """The exit codes that scripts rely on."""

    DONE = 0
    FAILED = 1
    INVALID = 2
    NOT_FOUND = 3
    DENIED = 4
    CONFLICT = 5
    NO_ROOM = 6
    UNREACHABLE = 7
    INTERRUPTED = 130


EXITS = {
    "INVALID_ARGUMENT": Exit.INVALID,
    "OUT_OF_RANGE": Exit.INVALID,
    "NOT_FOUND": Exit.NOT_FOUND,
    "PERMISSION_DENIED": Exit.DENIED,
    "UNAUTHENTICATED": Exit.DENIED,
    "ALREADY_EXISTS": Exit.CONFLICT,
    "FAILED_PRECONDITION": Exit.CONFLICT,
    "ABORTED": Exit.CONFLICT,
    "UNIMPLEMENTED": Exit.CONFLICT,
    "RESOURCE_EXHAUSTED": Exit.NO_ROOM,
    "UNAVAILABLE": Exit.UNREACHABLE,
    "DEADLINE_EXCEEDED": Exit.UNREACHABLE,
    "CANCELLED": Exit.INTERRUPTED,
}
CODES: dict[type[errors.CloudError], str] = {
    errors.Invalid: "INVALID_ARGUMENT",
    errors.NotFound: "NOT_FOUND",
    errors.AlreadyExists: "ALREADY_EXISTS",
    errors.Conflict: "ABORTED",
    errors.WrongState: "FAILED_PRECONDITION",
    errors.Unsupported: "UNIMPLEMENTED",
    errors.NoCapacity: "RESOURCE_EXHAUSTED",
    errors.Denied: "PERMISSION_DENIED",
    errors.Unauthenticated: "UNAUTHENTICATED",
    errors.OutOfRange: "OUT_OF_RANGE",
    errors.Unavailable: "UNAVAILABLE",
    errors.Broken: "INTERNAL",
}
ADVICE = {
    "FLAVOR_NOT_FOUND": "see what there is: stead flavor list",
    "IMAGE_NOT_FOUND": "see what there is: stead image list",
    "INSTANCE_NOT_FOUND": "see what there is: stead instance list",
    "OPERATION_NOT_FOUND": "see what there is: stead operation list",
    "DRIVER_CAPABILITY_MISSING": "what each host can do a cloud admin sees: stead host show",
    "HOST_NOT_FOUND": "see what there is: stead host list",
    "KEY_PAIR_NOT_FOUND": "see what there is: stead keypair list",
    "PROJECT_NOT_FOUND": "see what there is: stead project list",
    "PROJECT_NOT_EMPTY": "delete its instances first: stead instance list --all-projects",
    "QUOTA_EXCEEDED": "see limits and use: stead quota show",
    "INVALID_INSTANCE_STATE": "see what is allowed now: stead instance show",
    "OPERATION_UNDER_WAY": "wait for it, then try again: stead instance wait",
    "OPERATION_NOT_CANCELLABLE": "delete the instance instead: stead instance delete",
    "ETAG_MISMATCH": "look again, then decide again: it was changed meanwhile",
    "FILTER_INVALID": 'write it so: --filter \'state = "ACTIVE" AND labels.tier = "web"\'',
    "PUBLIC_KEY_INVALID": "give the .pub file that ssh-keygen made",
    "CONSOLE_IN_USE": "read along with --read-only, or take the keyboard with --take-over",
    "CONSOLE_TAKEN_OVER": "somebody else types now; --take-over takes the keyboard back",
    "CONSOLE_OFFSET_GONE": "the host keeps less: leave --from out, or see the newest with --log",
    "RESUME_TOKEN_INVALID": "begin without --resume-token, and use the same --filter",
    "REVISION_COMPACTED": "it is too long ago: begin with a new snapshot",
    "IMAGE_TOO_LARGE": "choose a flavor with a larger disk: stead flavor list",
    "TOKEN_MISSING": "point STEAD_TOKEN_FILE at a token, or start the cloud: stead up --detach",
    "TOKEN_INVALID": "is the token of this cloud? Make one: stead token create",
    "TOKEN_EXPIRED": "make a new one: stead token create (the admin's own: stead up renews it)",
    "ROLE_MISSING": "use a token with more rights: stead token create --role …",
    "NO_VALID_HOST": "take a smaller flavor; an admin sees what is left: stead host list",
    "CONSOLE_NOT_READY": "wait until the instance is ACTIVE: stead instance show",
    "HOST_UNREACHABLE": "try again; an admin sees whether the host is up: stead host list",
    "PEER_UNREACHABLE": "see what runs: stead status; STEAD_ENDPOINT names a cloud elsewhere",
    "CLOUD_NOT_RUNNING": "start it: stead up --detach",
    "DATABASE_UNAVAILABLE": "see what runs: stead status",
    "STORAGE_FULL": "make room on the disk that holds the home, then try again",
    "PORT_TAKEN": "choose another: stead up --listen 127.0.0.1:PORT",
    "HOME_IN_USE": "stop it first: stead down; or use another home: STEAD_HOME=FOLDER stead up",
    "HOME_UNUSABLE": "use another: STEAD_HOME=FOLDER stead up",
    "HOME_PATH_TOO_LONG": "use a shorter one: STEAD_HOME=FOLDER stead up",
    "HOME_NEWER": "use the newer stead, or another home: STEAD_HOME=FOLDER stead up",
    "IMAGE_REJECTED": "give a whole qcow2 or raw disk, or a tar of kernel, initrd and cmdline",
}
# Their messages say already what to do.
PLAIN = frozenset({"INVALID_FIELD", "NAME_TAKEN", "ORDER_INVALID", "START_FAILED"})


@dataclass
class Refusal(Exception):
    """Why a command did not do what it was asked. `code` is the name of a gRPC status code."""

    code: str
    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    field_violations: list[dict[str, str]] = field(default_factory=list)
    exit_code: int = -1

    def __post_init__(self) -> None:
        super().__init__(self.message)
        if self.exit_code < 0:
            self.exit_code = EXITS.get(self.code, Exit.FAILED)


def refusal_of(error: errors.CloudError) -> Refusal:
    """The same "no" in the form that is shown."""
    violations = [{"field": error.field, "description": error.message}] if error.field else []
    return Refusal(
        CODES[type(error)], error.reason, error.message, dict(error.metadata), violations
    )


def refusal_of_operation(operation: dict[str, Any], *, code: str) -> Refusal:
    """Why an operation ended without success. `operation` is its JSON; no room keeps its own exit
    code.
    """
    error = operation.get("error") or {}
    return Refusal(
        code,
        str(error.get("reason", "")) or "OPERATION_FAILED",
        str(error.get("message", "")) or f"the operation ended as {operation.get('state')}",
        {"operation_id": str(operation.get("id", "")), **error.get("metadata", {})},
        exit_code=Exit.NO_ROOM if code == "RESOURCE_EXHAUSTED" else Exit.FAILED,
    )


def as_json(refusal: Refusal) -> dict[str, Any]:
    """What `--output json` writes on standard error."""
    return {
        "code": refusal.code,
        "reason": refusal.reason,
        "message": refusal.message,
        "metadata": refusal.metadata,
        "field_violations": refusal.field_violations,
    }


def as_text(refusal: Refusal) -> str:
    """What people read: what was wrong, the reason, what to do."""
    first, *more = refusal.message.splitlines() or [""]
    lines = [f"stead: {first} ({refusal.reason})", *(f"  {line}" for line in more)]
    for violation in refusal.field_violations:
        if violation["description"] == refusal.message:
            lines.append(f"  where: {violation['field']}")
        elif f"{violation['field']} {violation['description']}" != refusal.message:
            lines.append(f"  {violation['field']}: {violation['description']}")
    rejected = {
        k: v for k, v in refusal.metadata.items() if k.startswith("rejected_by_") and v != "0"
    }
    lines += [
        f"  {v} {'host' if v == '1' else 'hosts'} refused by: {k.removeprefix('rejected_by_')}"
        for k, v in rejected.items()
    ]
    if advice := advice_on(refusal.reason):
        lines.append(f"  {advice}")
    return "\n".join(lines)


def advice_on(reason: str) -> str:
    """What to do about it; empty where nobody can say."""
    if reason in PLAIN:
        return ""
    known = REASONS.get(reason)
    return ADVICE.get(reason) or (known.remedy if known else "")
