"""What checkers read: a history in types and with indexes. Owns how rows and messages are read."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stead.v1 import instance_pb2, operation_pb2

from services.domain.instance import Power, Standing, State, Task
from services.domain.kinds import HostState, ResourceKind
from services.domain.resources import NOTHING, Resources
from tests.checkers.history import Call, History, HostEvent, Mark, Row, Seen

Claimed = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """One record of the change log; what stands in its body where it is an instance's."""

    revision: int
    kind: ResourceKind
    id: str
    project_id: str
    version: int
    epoch: int
    deleted: bool
    ledger: tuple[int | None, ...]
    standing: Standing | None = None
    host_id: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """All that one watcher saw, and whose things it may see (None: not known)."""

    watcher: str
    scope: str | None
    told: tuple[Seen | Mark, ...]


class Past:
    """A history with indexes, each made when it is first asked for."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.dump = history.dump

    @cached_property
    def changes(self) -> list[Change]:
        """The change log in its order."""
        found = [_change(row) for row in self.dump.changes]
        return sorted(found, key=lambda change: change.revision)

    @cached_property
    def versions(self) -> Mapping[tuple[ResourceKind, str], list[Change]]:
        """The changes of each thing."""
        found: dict[tuple[ResourceKind, str], list[Change]] = defaultdict(list)
        for change in self.changes:
            found[change.kind, change.id].append(change)
        return found

    @cached_property
    def instances(self) -> Mapping[str, Row]:
        """Rows of instances by id."""
        return {str(row["id"]): row for row in self.dump.instances}

    @cached_property
    def operations(self) -> Mapping[str, Row]:
        """Rows of operations by id."""
        return {str(row["id"]): row for row in self.dump.operations}

    @cached_property
    def hosts(self) -> Mapping[str, Row]:
        """Rows of hosts by id."""
        return {str(row["id"]): row for row in self.dump.hosts}

    @cached_property
    def claims(self) -> Mapping[Claimed, Row]:
        """Claims by instance and epoch."""
        return {claimed(row): row for row in self.dump.claims}

    @cached_property
    def claims_of(self) -> Mapping[str, list[tuple[Claimed, Row]]]:
        """The claims for each instance."""
        found: dict[str, list[tuple[Claimed, Row]]] = defaultdict(list)
        for key, row in self.claims.items():
            found[key[0]].append((key, row))
        return found

    @cached_property
    def guests(self) -> Mapping[Claimed, list[Row]]:
        """What stands on hosts by instance and epoch."""
        found: dict[Claimed, list[Row]] = defaultdict(list)
        for row in self.dump.guests:
            found[claimed(row)].append(row)
        return found

    @cached_property
    def events(self) -> Mapping[str, list[HostEvent]]:
        """What hosts did for each instance, in the order of time."""
        found: dict[str, list[HostEvent]] = defaultdict(list)
        for event in sorted(self.history.host_events, key=lambda one: one.at_s):
            found[event.instance_id].append(event)
        return found

    @cached_property
    def streams(self) -> list[Stream]:
        """What each watcher saw."""
        found: dict[str, list[Seen | Mark]] = defaultdict(list)
        scopes: dict[str, str | None] = {}
        for one in self.history.seen:
            found[one.watcher].append(one)
            if isinstance(one, Mark) and one.scope is not None:
                scopes[one.watcher] = one.scope
        return [Stream(name, scopes.get(name), tuple(told)) for name, told in found.items()]

    def is_up(self, host_id: str) -> bool:
        """Whether a host can have been told everything."""
        row = self.hosts.get(host_id)
        return row is not None and int(row["state"]) == HostState.UP

    def calls(self, *methods: str) -> Iterator[Call]:
        """Calls of these methods, all without."""
        return (c for c in self.history.calls if not methods or c.method in methods)


Rule = Callable[[Past], Iterator[str]]


def claimed(row: Row) -> Claimed:
    """Instance and epoch of a claim or guest."""
    return (str(row["instance_id"]), int(row["epoch"]))


def standing_of(row: Row) -> Standing:
    """Where an instance's row stands."""
    return Standing(State(int(row["state"])), Task(int(row["task"])))


def resources_of(row: Row, prefix: str = "") -> Resources:
    """What a row takes or has."""
    named = (int(row.get(f"{prefix}{noun}", 0)) for noun in ("vcpus", "memory_mib", "disk_gib"))
    return Resources(*named)


RESTING = {
    Power.RUNNING: State.ACTIVE,
    Power.PAUSED: State.PAUSED,
    Power.SUSPENDED: State.SUSPENDED,
}


def resting(guest: Row) -> State:
    """The state that an instance has whose guest is so."""
    if "running" in guest:
        return State.ACTIVE if guest["running"] else State.STOPPED
    return RESTING.get(Power(int(guest.get("power", Power.OFF))), State.STOPPED)


def is_running(guest: Row) -> bool:
    """Whether a guest is on."""
    return resting(guest) is State.ACTIVE


def total(rows: Sequence[Row]) -> Resources:
    """What rows take together."""
    amounts = NOTHING
    for row in rows:
        one = resources_of(row)
        amounts = Resources(
            amounts.vcpus + one.vcpus,
            amounts.memory_mib + one.memory_mib,
            amounts.disk_gib + one.disk_gib,
        )
    return amounts


def exceeds(one: Resources, other: Resources) -> bool:
    """Whether one is more than the other in anything."""
    return (
        one.vcpus > other.vcpus
        or one.memory_mib > other.memory_mib
        or one.disk_gib > other.disk_gib
    )


def fault_of(row: Row) -> str:
    """The reason with which an operation's row ended, "" where none is told."""
    if "reason" in row or "body" not in row:
        return str(row.get("reason", ""))
    return operation_pb2.Operation.FromString(_bytes(row["body"])).error.reason


def _bytes(body: Any) -> bytes:
    return base64.b64decode(body) if isinstance(body, str) else bytes(body)


def _change(row: Row) -> Change:
    kind = ResourceKind(int(row["kind"]))
    standing, host_id, generation = None, "", 0
    if kind is ResourceKind.INSTANCE and row.get("body"):
        told = instance_pb2.Instance.FromString(_bytes(row["body"]))
        standing = Standing(State(told.state), Task(told.task))
        host_id, generation = told.host_id, told.generation
    elif kind is ResourceKind.INSTANCE and "state" in row:
        standing, host_id, generation = standing_of(row), str(row["host_id"]), row["generation"]
    return Change(
        int(row["revision"]), kind, str(row["id"]), str(row["project_id"]), int(row["version"]),
        int(row["epoch"]), bool(row["deleted"]), tuple(row.get("ledger") or ()), standing, host_id,
        generation,
    )  # fmt: skip
