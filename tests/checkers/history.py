"""A history: what clients, watchers and hosts saw of one cloud, and all rows at its end.

Simulation and chaos write it down as it happens, `past.py` makes of it what checkers read. Times
are seconds of one clock that all calls and events of a history share. Owns no rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Row = Mapping[str, Any]


class Ending(Enum):
    """How a call ended for its client. UNKNOWN: no answer, or one that leaves open whether it was
    done (UNAVAILABLE, DEADLINE_EXCEEDED, a broken connection): both may be true.
    """

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class What(Enum):
    """What a host did to a guest. STOPPED is also how one ends that crashed or lost its power."""

    PREPARED = "prepared"
    STARTED = "started"
    STOPPED = "stopped"
    ERASED = "erased"


class Sign(Enum):
    """What a watch says beside its objects.

    BEGUN: the client asks for a snapshot. DONE: the snapshot is complete. RESUMED: it goes on
    behind its last token. COMPACTED: its token was refused, explicitly; it begins anew.
    """

    BEGUN = "begun"
    DONE = "done"
    BOOKMARK = "bookmark"
    RESUMED = "resumed"
    COMPACTED = "compacted"


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC of one client. `fingerprint` stands for the payload: equal for equal ones. Of an
    answer: `resource_id`, `operation_id`, and the `version` of the resource in it, 0 if not known.
    """

    client: str
    method: str
    project_id: str
    request_id: str
    fingerprint: str
    invoked_s: float
    ended_s: float
    ending: Ending
    reason: str = ""
    resource_id: str = ""
    operation_id: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """One version of one object, as a watch without a filter told it; `project_id` is its own."""

    watcher: str
    project_id: str
    kind: str
    id: str
    version: int
    revision: int
    state: str
    deleted: bool
    snapshot: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """What else a watch said, between the objects. `scope`, of one that begins: the project whose
    things it may show, "" for those of all; None where that is not known.
    """

    watcher: str
    sign: Sign
    revision: int = 0
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class HostEvent:
    """What a host did for one claim, as the host itself wrote it down."""

    host_id: str
    instance_id: str
    epoch: int
    what: What
    at_s: float


@dataclass(frozen=True, slots=True)
class Dump:
    """All rows when all was healed and quiet, under the names of the database's columns.

    `changes` may have `commit` (the same for all records of one commit), and of instances `state`,
    `task`, `host_id`, `generation`; operations `reason`, `created_s` and `ended_s`. Guests have
    host_id, instance_id, epoch, power, prepared, and what they take.
    """

    instances: Sequence[Row] = ()
    claims: Sequence[Row] = ()
    hosts: Sequence[Row] = ()
    operations: Sequence[Row] = ()
    requests: Sequence[Row] = ()
    projects: Sequence[Row] = ()
    changes: Sequence[Row] = ()
    guests: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class History:
    """Everything of one run; what each watcher saw stands in its order. `differences` are what an
    audit told when all was quiet.
    """

    calls: Sequence[Call] = ()
    seen: Sequence[Seen | Mark] = ()
    host_events: Sequence[HostEvent] = ()
    dump: Dump = field(default_factory=Dump)
    differences: Sequence[Row] = ()


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """A broken invariant: its name in docs/reliability.md, and what broke it."""

    invariant: str
    text: str
