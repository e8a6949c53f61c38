"""What a reason is: a stable name for why something was refused or failed.

Owns the shape of an entry. Does not own the entries: `reasons` has them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The gRPC status codes that stead answers with, by their names."""

    CANCELLED = "CANCELLED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class Met(StrEnum):
    """Who meets a reason; the value heads its table in the docs."""

    CALL = "In the answer of a call"
    OPERATION = "In the error of an operation"
    HOST = "Told by a host about a guest"
    INSIDE = "Between the parts of a cloud"
    COMMAND = "From the command alone"


@dataclass(frozen=True, slots=True)
class Reason:
    """One entry: its name, the codes that it comes with, what it means and what the one who meets
    it can do. A name is never used again for something else.
    """

    name: str
    met: Met
    codes: tuple[Code, ...]
    meaning: str
    remedy: str
