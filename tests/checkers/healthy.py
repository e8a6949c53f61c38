"""Histories in which all holds, written by a small author: what checkers must be silent about, and
what broken histories are made from by one change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from services.domain.instance import Event, Power, Standing, State, Task, after
from services.domain.kinds import ClaimRole, HostState, ResourceKind
from services.domain.operation import OperationAction, OperationState
from tests.checkers.history import (
    Call,
    Dump,
    Ending,
    History,
    HostEvent,
    Mark,
    Seen,
    Sign,
    What,
)

HOSTS = ("h1", "h2")
PROJECTS = ("p", "q")
TAKES = {"vcpus": 1, "memory_mib": 512, "disk_gib": 1}
TARGET = {"target_vcpus": 50, "target_memory_mib": 50_000, "target_disk_gib": 500}
SETTLED = (State.ACTIVE, State.STOPPED)
POWER_ACTIONS = {
    "Start": (Event.START_ASKED, Event.SEEN_RUNNING, OperationAction.START_INSTANCE),
    "Stop": (Event.STOP_ASKED, Event.SEEN_OFF, OperationAction.STOP_INSTANCE),
    "Reboot": (Event.REBOOT_ASKED, Event.SEEN_RUNNING, OperationAction.REBOOT_INSTANCE),
}
Fields = dict[str, Any]


@dataclass
class Author:
    """Lives a small cloud step by step; each step takes a second, and every commit is told to a
    watcher of each project and to one of all.
    """

    head: int = 0
    now_s: float = 0.0
    serial: int = 0
    calls: list[Call] = field(default_factory=list)
    seen: dict[str, list[Seen | Mark]] = field(default_factory=dict)
    events: list[HostEvent] = field(default_factory=list)
    instances: dict[str, Fields] = field(default_factory=dict)
    claims: dict[str, Fields] = field(default_factory=dict)
    operations: dict[str, Fields] = field(default_factory=dict)
    hosts: dict[str, Fields] = field(default_factory=dict)
    guests: dict[str, Fields] = field(default_factory=dict)
    requests: list[Fields] = field(default_factory=list)
    changes: list[Fields] = field(default_factory=list)

    def __post_init__(self) -> None:
        for host_id in HOSTS:
            self.hosts[host_id] = {
                "id": host_id, "state": HostState.UP.value, "incarnation": 1, **TARGET,
                "used_vcpus": 0, "used_memory_mib": 0, "used_disk_gib": 0, "claim_count": 0,
                "version": 0, "revision": 0,
            }  # fmt: skip
            self._tell_host(host_id, 0)
        for watcher in (*PROJECTS, ""):
            name = f"watcher {watcher}"
            begun = Mark(name, Sign.BEGUN, scope=watcher)
            self.seen[watcher] = [begun, Mark(name, Sign.DONE, self.head)]

    def create(self, project_id: str, host_id: str, *, fails: bool = False) -> str:
        """A create from its call to its end, ACTIVE or ERROR."""
        self.serial += 1
        id_ = f"i{self.serial}"
        self.instances[id_] = {
            "id": id_, "project_id": project_id, "name": id_, "host_id": "", "generation": 1,
            "epoch": 0, "version": 0, "revision": 0, "deleted": False, **TAKES,
        }  # fmt: skip
        operation_id = self._ask("Create", id_, OperationAction.CREATE_INSTANCE)
        self._move(id_, Standing(State.REQUESTED, Task.SCHEDULING))
        row = self.instances[id_]
        row |= {"epoch": self.head + 1, "host_id": host_id}
        self.claims[id_] = {
            "instance_id": id_, "epoch": row["epoch"], "host_id": host_id,
            "role": ClaimRole.HOLDER.value, **TAKES,
        }  # fmt: skip
        self._happen(id_, Event.CLAIMED)
        self._tell_host(host_id, 1)
        self._act(id_, What.PREPARED)
        if fails:
            self._act(id_, What.ERASED)
            row["host_id"] = ""
            self._happen(id_, Event.FAILED)
            self._release(id_)
        else:
            self._act(id_, What.STARTED)
            self._happen(id_, Event.STARTED)
        self._end(operation_id, "BUILD_FAILED" if fails else "")
        return id_

    def power(self, id_: str, verb: str) -> None:
        """A start, stop or reboot from its call to its end."""
        asked, done, action = POWER_ACTIONS[verb]
        operation_id = self._ask(verb, id_, action)
        self.instances[id_]["generation"] += 1
        self._happen(id_, asked)
        if verb in ("Stop", "Reboot"):
            self._act(id_, What.STOPPED)
        if verb in ("Start", "Reboot"):
            self._act(id_, What.STARTED)
        self._happen(id_, done)
        self._end(operation_id, "")

    def delete(self, id_: str) -> None:
        """A delete from its call to its end."""
        operation_id = self._ask("Delete", id_, OperationAction.DELETE_INSTANCE)
        row = self.instances[id_]
        row["generation"] += 1
        self._happen(id_, Event.DELETE_ASKED)
        if id_ in self.claims:
            if self.guests[id_]["running"]:
                self._act(id_, What.STOPPED)
            self._act(id_, What.ERASED)
        row["deleted"] = True
        self._happen(id_, Event.GUEST_GONE)
        if id_ in self.claims:
            self._release(id_)
        self._end(operation_id, "")

    def watch_again(self, watcher: str) -> None:
        """A watcher that goes on behind its token."""
        self.seen[watcher].append(Mark(f"watcher {watcher}", Sign.RESUMED))

    def history(self) -> History:
        """All of it so far, at rest."""
        marks = {w: Mark(f"watcher {w}", Sign.BOOKMARK, self.head) for w in self.seen}
        return History(
            calls=tuple(self.calls),
            seen=tuple(one for w, told in self.seen.items() for one in (*told, marks[w])),
            host_events=tuple(self.events),
            dump=Dump(
                instances=tuple(dict(row) for row in self.instances.values()),
                claims=tuple(dict(row) for row in self.claims.values()),
                hosts=tuple(dict(row) for row in self.hosts.values()),
                operations=tuple(dict(row) for row in self.operations.values()),
                requests=tuple(self.requests),
                projects=tuple(self._project(id_) for id_ in PROJECTS),
                changes=tuple(self.changes),
                guests=tuple(dict(row) for row in self.guests.values()),
            ),
        )

    def _ask(self, verb: str, id_: str, action: OperationAction) -> str:
        self.serial += 1
        operation_id, request_id = f"o{self.serial}", f"r{self.serial}"
        project_id, method = self.instances[id_]["project_id"], f"{verb}Instance"
        self.now_s += 1
        asked = (f"user of {project_id}", method, project_id, request_id, f"{method} {id_}")
        for again in range(2 if self.serial % 3 == 0 else 1):
            at_s = self.now_s + again / 4
            ending = Ending.OK if again or self.serial % 3 else Ending.UNKNOWN
            ids = (id_, operation_id) if ending is Ending.OK else ("", "")
            answer = Call(*asked, at_s, at_s + 0.1, ending, "", *ids)
            self.calls.append(answer)
        self.requests.append(
            {"project_id": project_id, "caller": asked[0], "method": method,
             "request_id": request_id, "fingerprint": "f", "resource_id": id_,
             "operation_id": operation_id}
        )  # fmt: skip
        self.operations[operation_id] = {
            "id": operation_id, "project_id": project_id, "resource_id": id_,
            "action": action.value, "version": 0, "reason": "",
        }  # fmt: skip
        self._tell_operation(operation_id, OperationState.RUNNING)
        return operation_id

    def _end(self, operation_id: str, reason: str) -> None:
        self.operations[operation_id]["reason"] = reason
        state = OperationState.FAILED if reason else OperationState.DONE
        self._tell_operation(operation_id, state)

    def _happen(self, id_: str, event: Event) -> None:
        row = self.instances[id_]
        following = after(Standing(State(row["state"]), Task(row["task"])), event)
        assert isinstance(following, Standing), (row, event)
        self._move(id_, following)

    def _move(self, id_: str, standing: Standing) -> None:
        row = self.instances[id_]
        row |= {"state": standing.state.value, "task": standing.task.value}
        self._tell(ResourceKind.INSTANCE, row, {
            "epoch": row["epoch"], "deleted": row["deleted"], "state": row["state"],
            "task": row["task"], "host_id": row["host_id"], "generation": row["generation"],
        })  # fmt: skip
        for watcher, told in self.seen.items():
            if watcher in ("", row["project_id"]):
                told.append(
                    Seen(
                        f"watcher {watcher}", row["project_id"], "instance", id_, row["version"],
                        self.head, standing.state.name, row["deleted"], False,
                    )
                )  # fmt: skip

    def _tell_operation(self, operation_id: str, state: OperationState) -> None:
        row = self.operations[operation_id]
        row["state"] = state.value
        self._tell(ResourceKind.OPERATION, row, {})

    def _tell_host(self, host_id: str, claims: int) -> None:
        row = self.hosts[host_id]
        row["claim_count"] += claims
        for noun, amount in TAKES.items():
            row[f"used_{noun}"] += claims * amount
        ledger = [*TARGET.values(), *(row[f"used_{n}"] for n in TAKES), row["claim_count"]]
        self._tell(ResourceKind.HOST, {**row, "project_id": ""}, {"ledger": ledger})
        row |= {"version": row["version"] + 1, "revision": self.head}

    def _tell(self, kind: ResourceKind, row: Fields, more: Fields) -> None:
        self.head += 1
        self.now_s += 0.01
        row |= {"version": row["version"] + 1, "revision": self.head}
        told = {k: row[k] for k in ("id", "project_id", "version", "revision")}
        base: Fields = {
            "kind": kind.value,
            "epoch": 0,
            "deleted": False,
            "public": False,
            "ledger": [],
        }
        self.changes.append({**base, **told, **more})

    def _act(self, id_: str, what: What) -> None:
        row = self.instances[id_]
        self.now_s += 0.1
        self.events.append(HostEvent(row["host_id"], id_, row["epoch"], what, self.now_s))
        if what is What.ERASED:
            del self.guests[id_]
            return
        running = what is What.STARTED
        self.guests[id_] = {
            "host_id": row["host_id"], "instance_id": id_, "epoch": row["epoch"],
            "running": running, "prepared": True, **TAKES,
            "power": (Power.RUNNING if running else Power.OFF).value,
        }  # fmt: skip

    def _release(self, id_: str) -> None:
        self._tell_host(self.claims.pop(id_)["host_id"], -1)

    def _project(self, project_id: str) -> Fields:
        alive = [
            r for r in self.instances.values()
            if r["project_id"] == project_id and not r["deleted"]
        ]  # fmt: skip
        used = {f"used_{noun}": len(alive) * amount for noun, amount in TAKES.items()}
        return {"id": project_id, "used_instances": len(alive), **used}


def some_history(random: Random, steps: int) -> History:
    """A healthy history at random."""
    author = Author()
    for _ in range(steps):
        settled = [
            i for i, row in author.instances.items()
            if row["state"] in SETTLED and row["task"] == Task.NONE
        ]  # fmt: skip
        luck = random.random()
        if not settled or luck < 0.4:
            author.create(random.choice(PROJECTS), random.choice(HOSTS), fails=luck < 0.05)
            continue
        chosen = random.choice(settled)
        if luck < 0.6:
            author.delete(chosen)
        elif author.instances[chosen]["state"] == State.STOPPED:
            author.power(chosen, "Start")
        else:
            author.power(chosen, random.choice(["Stop", "Reboot"]))
        if luck > 0.9:
            author.watch_again(random.choice([*PROJECTS, ""]))
    return author.history()
