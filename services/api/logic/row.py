"""A row as the conductor hands it out: a typed header, and the public message's bytes, opaque here.

Owns who may see a row. Does not own its content.
"""

from dataclasses import dataclass

from services.api.logic.caller import Caller
from services.domain.condition import Condition
from services.domain.kinds import ListOrder, ResourceKind
from services.domain.resources import QuotaAmounts, Resources

_SHARED = frozenset({ResourceKind.FLAVOR})
_OF_ADMINS = frozenset({ResourceKind.HOST})


@dataclass(frozen=True, slots=True)
class Ledger:
    """What claims on a host may add up to, what they do add up to, and how many they are."""

    target: Resources
    used: Resources
    claims: int


@dataclass(frozen=True, slots=True)
class Quota:
    """What a project may have at once, and what it has; a limit of -1 is none."""

    limits: QuotaAmounts
    used: QuotaAmounts


@dataclass(frozen=True, slots=True)
class Before:
    """The version before a change."""

    body: bytes
    revision: int
    epoch: int
    ledger: Ledger | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One version of one row. `epoch` is 0 without a live claim; `body` is a serialised stead.v1
    message. `before` is for rows of the feed, None for an object's first version. `next_look_us`
    since 1970 and `looks` are for operations under way that were read.
    """

    kind: ResourceKind
    id: str
    project_id: str
    version: int
    revision: int
    epoch: int
    body: bytes
    deleted: bool = False
    public: bool = False
    ledger: Ledger | None = None
    quota: Quota | None = None
    before: Before | None = None
    next_look_us: int = 0
    looks: int = 0


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which rows to read: at most `limit`, of one project or, if empty, of all, that meet all
    conditions and come after (`after_key`, `after_id`) in the order.

    `pinned_revision` asks for the rows as they were at that commit, 0 for the newest.
    """

    kind: ResourceKind
    project_id: str
    limit: int
    conditions: tuple[Condition, ...] = ()
    order: ListOrder = ListOrder.ID
    descending: bool = False
    after_key: str = ""
    after_id: str = ""
    pinned_revision: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the order asked for, true to `revision`. With `more` the next page continues after
    (`last_key`, `last_id`), which may lie beyond the last row.
    """

    rows: tuple[Row, ...]
    revision: int
    more: bool
    last_id: str = ""
    last_key: str = ""


def is_visible(row: Row, caller: Caller) -> bool:
    """Whether the row exists for this caller at all."""
    return (
        caller.cloud_admin
        or row.kind in _SHARED
        or (row.public and row.kind not in _OF_ADMINS)
        or (row.kind is ResourceKind.PROJECT and row.id == caller.project_id)
        or (row.project_id != "" and row.project_id == caller.project_id)
    )
