"""Who calls: the verified content of a token, and what its role may do.

Owns the order of roles. Does not own which RPC needs which: `edges.authentication` has that table.
"""

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What a caller may do; each role may do what those before it may."""

    NONE = 0
    READER = 1
    MEMBER = 2
    ADMIN = 3
    CLOUD_ADMIN = 4


@dataclass(frozen=True, slots=True)
class Caller:
    """One verified token. `expires_at_s` is in seconds since 1970."""

    subject: str
    project_id: str
    role: Role
    expires_at_s: float

    @property
    def cloud_admin(self) -> bool:
        """Whether rows of every project are open to it."""
        return self.role is Role.CLOUD_ADMIN


def may(caller: Caller, needed: Role) -> bool:
    """Whether the caller's role reaches `needed`."""
    return caller.role >= needed
