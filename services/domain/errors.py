"""The errors of stead: twelve kinds, each raised with a stable reason.

Owns the kinds. Does not own their wire form: `runtime.rpc` turns them into google.rpc.Status.
"""

from collections.abc import Mapping


class CloudError(Exception):
    """A refusal that a caller can read: a stable `reason`, a message for people, and the message's
    variables.

    `field` names the request field at fault, or is empty.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}: {self.message})"


class Invalid(CloudError):
    """The request itself is wrong, whatever the state of the cloud."""


class NotFound(CloudError):
    """There is no such thing for this caller."""


class AlreadyExists(CloudError):
    """Something of that name is there already."""


class Conflict(CloudError):
    """The row moved on since it was read."""


class WrongState(CloudError):
    """The thing is not in a state that allows this."""


class Unsupported(CloudError):
    """Where the thing is, this cannot be done at all."""


class NoCapacity(CloudError):
    """There is no room, quota or buffer for it."""


class OutOfRange(CloudError):
    """What was asked for lies outside of what is kept."""


class Denied(CloudError):
    """The caller may not do this."""


class Unauthenticated(CloudError):
    """The caller did not show who it is."""


class Unavailable(CloudError):
    """A part of the cloud cannot answer now; the same call may succeed later."""


class Broken(CloudError):
    """A rule of stead itself is broken: a bug."""
