"""The reasons that callers meet once the request itself is right: about instances, images and the
cloud as it is now, and how operations end.
"""

from services.domain.reason import Code, Met, Reason

_INVALID = (Code.INVALID_ARGUMENT,)
_WRONG_STATE = (Code.FAILED_PRECONDITION,)
_AGAIN = (Code.UNAVAILABLE,)
_NO_ROOM = (Code.RESOURCE_EXHAUSTED,)


def _call(name: str, codes: tuple[Code, ...], meaning: str, remedy: str) -> Reason:
    return Reason(name, Met.CALL, codes, meaning, remedy)


INSTANCES = (
    _call(
        "INVALID_INSTANCE_STATE",
        _WRONG_STATE,
        "The instance's state does not allow the action; docs/actions.md has the table.",
        "See `allowed_actions` and `blocked_actions` of the instance; wait, or choose another.",
    ),
    _call(
        "OPERATION_UNDER_WAY",
        _WRONG_STATE,
        "Something else is being done to the instance.",
        "Wait for the operation's end, then ask again.",
    ),
    _call(
        "DRIVER_CAPABILITY_MISSING",
        (Code.UNIMPLEMENTED,),
        "The driver of the instance's host cannot do this; nothing was begun.",
        "See `capabilities` of the host, or create it on a host of another driver.",
    ),
    _call(
        "GUEST_CLAIMED",
        _WRONG_STATE,
        "A claim stands for the guest: it is not unknown, it is on its way out, or it is the one "
        "disk of its instance.",
        "Delete its instance instead; a guest that leaves goes by itself.",
    ),
    _call(
        "HOST_NOT_DOWN",
        _WRONG_STATE,
        "The host is heard of, or it is not known that it is dead.",
        "End the host's agent and wait for its lease to lapse; docs/hosts.md.",
    ),
    _call(
        "HOST_NOT_FENCED",
        _WRONG_STATE,
        "The host is DOWN, but its guests may run on: nobody vouches that they do not.",
        "Make sure that it is off, then `stead host fence HOST --reason WORDS`.",
    ),
    _call(
        "NOTHING_TO_EVACUATE",
        _WRONG_STATE,
        "No host has anything of the instance: it was never built, or all of it is gone.",
        "Delete it, and create another.",
    ),
    _call(
        "HOST_NOT_EMPTY",
        _WRONG_STATE,
        "Instances live on the host that is to be removed.",
        "Evacuate or delete them first.",
    ),
    _call(
        "OPERATION_NOT_CANCELLABLE",
        _WRONG_STATE,
        "The operation has ended, or a host works on it already.",
        "Wait for its end; an instance can always be deleted.",
    ),
    _call(
        "IMAGE_TOO_LARGE",
        _INVALID,
        "The image does not fit the flavor's disk.",
        "Choose a flavor with a larger disk.",
    ),
    _call(
        "QUOTA_EXCEEDED",
        _NO_ROOM,
        "The project's quota does not admit it; QuotaFailure names each resource.",
        "Delete instances, or ask a cloud admin for more.",
    ),
    _call(
        "CONSOLE_NOT_READY",
        _WRONG_STATE,
        "There is no guest whose console could be read, or typing came while it was off.",
        "Wait until the instance is ACTIVE; reading goes on while it is off.",
    ),
    _call(
        "CONSOLE_IN_USE",
        _WRONG_STATE,
        "Somebody else writes to this console.",
        "Read only, wait, or take over.",
    ),
    _call(
        "CONSOLE_READ_ONLY",
        _WRONG_STATE,
        "Input came on a console that was opened for reading.",
        "Open it with `write`.",
    ),
    _call(
        "CONSOLE_TAKEN_OVER",
        (Code.ABORTED,),
        "Another writer took this console over.",
        "Open it again; resume reading at the last offset.",
    ),
    _call(
        "CONSOLE_OFFSET_GONE",
        (Code.OUT_OF_RANGE,),
        "The wanted offset is not kept any more, or was never written.",
        "Open the console without an offset; GetConsoleOutput says where the newest 1 MiB begins.",
    ),
    _call(
        "TOO_MANY_CONSOLES",
        _NO_ROOM,
        "The project has as many consoles open at this replica as one may have.",
        "Close those that nobody reads; ask again after RetryInfo's delay.",
    ),
)
IMAGES = (
    _call(
        "IMAGE_REJECTED",
        _INVALID,
        "The bytes are no image that stead starts guests from.",
        "Send a whole qcow2 without a backing file, a raw disk, or a kernel tar.",
    ),
    _call(
        "DIGEST_MISMATCH",
        _INVALID,
        "What arrived has another SHA-256 than was announced.",
        "Compute the digest of the file again, and send it again.",
    ),
    _call(
        "SIZE_MISMATCH",
        _INVALID,
        "More or fewer bytes arrived than were announced.",
        "Announce the file's size, and send all of it.",
    ),
    _call(
        "UPLOAD_STALLED",
        _INVALID,
        "No byte of the upload came for a while.",
        "Send it again, in one go.",
    ),
    _call(
        "STORAGE_FULL",
        _NO_ROOM,
        "The image store, or a host's disk, has no room for it.",
        "Delete images, or give it more room.",
    ),
    _call("STORE_BUSY", _AGAIN, "Others write to the image store.", "Send it again later."),
)
CLOUD = (
    _call(
        "LANE_FULL",
        _NO_ROOM,
        "Too much waits already in this part of the cloud.",
        "Ask again after RetryInfo's delay.",
    ),
    _call(
        "DEADLINE_PASSED",
        _AGAIN,
        "The caller's deadline passed before anything was done; nothing was done.",
        "Ask again with a longer deadline.",
    ),
    _call(
        "TOO_MANY_WATCHES",
        _NO_ROOM,
        "The project has as many open watches, or waits for operations, at this replica as one may "
        "have.",
        "End those that nobody reads; one watch of all instances serves many.",
    ),
    _call(
        "TOO_MANY_AUDITS",
        _NO_ROOM,
        "As many audits are under way as there may be at once.",
        "Ask again after RetryInfo's delay, when one of them has ended.",
    ),
    _call(
        "TOO_MANY_UPLOADS",
        _NO_ROOM,
        "As many images are on their way into this replica as one project, or all, may have.",
        "Ask again when one of them has come in.",
    ),
    _call(
        "WATCH_TOO_SLOW",
        _NO_ROOM,
        "The reader fell behind what is buffered for it; a watch has its `resume_token`.",
        "Read faster, or filter more; resume with the token, or ask again where there is none.",
    ),
    _call(
        "API_STOPPING",
        _AGAIN,
        "This replica is ending; `resume_token` of a watch says where to go on.",
        "Ask again: another replica, or the next, answers.",
    ),
    _call(
        "ROW_CONTENDED",
        _AGAIN,
        "Others changed the same thing again and again meanwhile.",
        "Ask again; with the same request id nothing is done twice.",
    ),
    _call(
        "DATABASE_UNAVAILABLE",
        _AGAIN,
        "The database does not answer.",
        "Ask again after RetryInfo's delay; `stead status` shows what runs.",
    ),
    _call(
        "READ_TOO_LONG",
        (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE),
        "The database was stopped after 2 s of one read; UNAVAILABLE where it was not a list's.",
        "For a list: a smaller page, a narrower filter, or begin without a token. Else ask again.",
    ),
    _call(
        "PEER_UNREACHABLE",
        _AGAIN,
        "A part of the cloud did not answer in time.",
        "Ask again; `stead status` shows what runs.",
    ),
    _call(
        "HOST_UNREACHABLE",
        _AGAIN,
        "The instance's host did not answer in time.",
        "Ask again; ListHosts shows whether it is UP.",
    ),
    _call(
        "BUG",
        (Code.INTERNAL,),
        "stead failed in a way it should not.",
        "Tell its makers, with `x-request-id`: the service's log has the line.",
    ),
    _call(
        "PEER_FAILED",
        (Code.INTERNAL,),
        "A part of the cloud answered in a way that it should not.",
        "As for BUG.",
    ),
)
OPERATIONS = (
    Reason(
        "NO_VALID_HOST",
        Met.OPERATION,
        _NO_ROOM,
        "No host can take the instance; `rejected_by_FILTER` counts how many refused why.",
        "Choose a smaller flavor, delete instances, or add or enable hosts.",
    ),
    Reason(
        "OPERATION_OVERDUE",
        Met.OPERATION,
        (Code.DEADLINE_EXCEEDED,),
        "The deadline of `phase` has passed; what was begun is undone. `cause` is what the last "
        "try met.",
        "Ask again; if it stays so, look at the host and at the deadlines of the conductor.",
    ),
    Reason(
        "BUILD_FAILED",
        Met.OPERATION,
        (Code.INTERNAL,),
        "Several hosts failed to build the instance; `cause` is what the last one said.",
        "See the cause among the reasons that hosts tell.",
    ),
    Reason(
        "SUPERSEDED_BY_DELETE",
        Met.OPERATION,
        (Code.CANCELLED,),
        "The instance is being deleted, by the operation `operation_id`.",
        "Nothing: the deletion goes on.",
    ),
    Reason(
        "CANCELLED_BY_CALLER",
        Met.OPERATION,
        (Code.CANCELLED,),
        "CancelOperation called it off; the instance is DELETED.",
        "Nothing; create it again if it is wanted after all.",
    ),
)
