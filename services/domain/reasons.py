"""Every reason that stead gives for a "no", in one place: docs/errors.md is made from it.

Owns the registry, and the reasons for which a request itself is refused; the files beside it have
the others. A test finds a reason in code that is not registered, and one that no test names.
"""

from services.domain.reason import Code, Met, Reason
from services.domain.reasons_inside import HOSTS, INSIDE
from services.domain.reasons_of_command import COMMAND
from services.domain.reasons_of_work import CLOUD, IMAGES, INSTANCES, OPERATIONS

_INVALID = (Code.INVALID_ARGUMENT,)
_MISSING = (Code.NOT_FOUND,)
_MISSING_OR_NAMED = (Code.NOT_FOUND, Code.INVALID_ARGUMENT)
_WRONG_STATE = (Code.FAILED_PRECONDITION,)
_WHO = (Code.UNAUTHENTICATED,)


def _call(name: str, codes: tuple[Code, ...], meaning: str, remedy: str) -> Reason:
    return Reason(name, Met.CALL, codes, meaning, remedy)


_REQUEST = (
    _call(
        "INVALID_FIELD",
        _INVALID,
        "A field breaks a rule of the contract; BadRequest names every such field.",
        "Correct the fields; the rules stand in the proto and can be checked before sending.",
    ),
    _call(
        "REQUEST_UNREADABLE",
        _INVALID,
        "The bytes of the request are not a message of this method.",
        "Make the client's code from the present contract.",
    ),
    _call(
        "REQUEST_ID_REUSED",
        _INVALID,
        "The request id was used with another payload by the same caller within 7 days.",
        "Send a new request id with a new wish; the same id is only for the same wish again.",
    ),
    _call(
        "FILTER_INVALID",
        _INVALID,
        "The filter cannot be read, or names a field that cannot be filtered on.",
        "See the comment of `filter` in the request for its grammar and fields.",
    ),
    _call(
        "ORDER_INVALID",
        _INVALID,
        "`order_by` names an order that there is not.",
        "Use one of those in the comment of `order_by`: id, create_time or name, with ` desc`.",
    ),
    _call(
        "PAGE_TOKEN_INVALID",
        _INVALID,
        "The page token was not made by this cloud, or for a list with other arguments.",
        "Send a token with the arguments of the page that gave it, or begin without one.",
    ),
    _call(
        "RESUME_TOKEN_INVALID",
        _INVALID,
        "The resume token was not made by this cloud, or for another caller or watch.",
        "Resume with the arguments and project that the token was given for, or take a snapshot.",
    ),
    _call(
        "REVISION_COMPACTED",
        (Code.OUT_OF_RANGE,),
        "Changes after this token are not kept any more; `oldest_revision` says from where on.",
        "Begin anew: a watch with a snapshot, a list without a page token.",
    ),
    _call(
        "ETAG_MISMATCH",
        (Code.ABORTED,),
        "The resource has changed since it was read.",
        "Read it, decide again, and send its present etag.",
    ),
    _call(
        "NAME_TAKEN",
        (Code.ALREADY_EXISTS,),
        "Something living in the project has that name; `id` says what.",
        "Choose another name, or delete what has it.",
    ),
    _call(
        "PUBLIC_KEY_INVALID",
        _INVALID,
        "The public key is of an unknown algorithm, or its bytes are not such a key.",
        "Send one line as it stands in a `.pub` file, without its line end.",
    ),
)
_ACCESS = (
    _call(
        "TOKEN_MISSING",
        _WHO,
        "The call has no `authorization: Bearer …` metadata.",
        "Send a token; `stead token create` makes one.",
    ),
    _call(
        "TOKEN_INVALID",
        _WHO,
        "The token was not made for this cloud, or not by it.",
        "Get a token of this cloud.",
    ),
    _call(
        "TOKEN_EXPIRED",
        _WHO,
        "The token's time is over. A watch ends with it; `resume_token` says where to go on.",
        "Get a new token; resume a watch with it.",
    ),
    _call(
        "ROLE_MISSING",
        (Code.PERMISSION_DENIED,),
        "The token's role does not allow this method, or this argument.",
        "Use a token of the role that the message names.",
    ),
)
_THINGS = (
    _call(
        "INSTANCE_NOT_FOUND",
        _MISSING,
        "There is no such instance for this caller.",
        "Check the id and the token's project: what is another's looks the same.",
    ),
    _call(
        "OPERATION_NOT_FOUND",
        _MISSING,
        "There is no such operation for this caller.",
        "Check the id and the token's project.",
    ),
    _call(
        "FLAVOR_NOT_FOUND",
        _MISSING_OR_NAMED,
        "There is no such flavor; INVALID_ARGUMENT where a request names it in passing.",
        "Choose one of ListFlavors.",
    ),
    _call(
        "IMAGE_NOT_FOUND",
        _MISSING_OR_NAMED,
        "There is no such image for this caller; INVALID_ARGUMENT where a request names it in "
        "passing.",
        "Choose one of ListImages.",
    ),
    _call(
        "KEY_PAIR_NOT_FOUND",
        _MISSING_OR_NAMED,
        "The project has no such key pair; INVALID_ARGUMENT where a request names it in passing.",
        "Choose one of ListKeyPairs.",
    ),
    _call("HOST_NOT_FOUND", _MISSING, "There is no such host.", "Choose one of ListHosts."),
    _call(
        "GUEST_NOT_REPORTED",
        _MISSING,
        "The host has told of no such guest.",
        "Choose one of ListUnknownGuests.",
    ),
    _call(
        "PROJECT_NOT_FOUND",
        _MISSING,
        "There is no such project for this caller.",
        "Check the id; callers see their own project only.",
    ),
    _call(
        "PROJECT_NOT_EMPTY",
        _WRONG_STATE,
        "The project has living instances.",
        "Delete its instances first.",
    ),
)
ALL = (
    *_REQUEST, *_ACCESS, *_THINGS, *INSTANCES, *IMAGES, *CLOUD, *OPERATIONS,
    *HOSTS, *INSIDE, *COMMAND,
)  # fmt: skip
REASONS: dict[str, Reason] = {reason.name: reason for reason in ALL}
