"""A row as the conductor hands it out: a typed header, and the public message's bytes, opaque here.

Owns who may see a row. Does not own its content.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.api.logic.caller import Caller
from services.domain.kinds import ResourceKind
from services.domain.resources import Resources

_SHARED = frozenset({ResourceKind.FLAVOR})


@dataclass(frozen=True, slots=True)
class Ledger:
    """What claims on a host may add up to, what they do add up to, and how many they are."""

    target: Resources
    used: Resources
    claims: int


@dataclass(frozen=True, slots=True)
class Row:
    """One version of one row. `epoch` is 0 without a live claim; `body` is a serialised stead.v1
    message.
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


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which rows to read: at most `limit` above `after_id`, of one project or, if empty, of all."""

    kind: ResourceKind
    project_id: str
    after_id: str
    limit: int
    where: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """Rows ordered by id, true to `revision`; `more` says that others follow."""

    rows: tuple[Row, ...]
    revision: int
    more: bool


def is_visible(row: Row, caller: Caller) -> bool:
    """Whether the row exists for this caller at all."""
    return (
        caller.cloud_admin
        or row.kind in _SHARED
        or (row.public and row.kind is not ResourceKind.HOST)
        or (row.project_id != "" and row.project_id == caller.project_id)
    )
