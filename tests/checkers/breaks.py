"""Healthy histories broken by one change each: one for every checker, and what must see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from services.domain.instance import State, Task
from services.domain.kinds import ClaimRole
from services.domain.operation import OperationState
from tests.checkers.healthy import TAKES, Author
from tests.checkers.history import Ending, History, HostEvent, Mark, Row, Seen, Sign, What


@dataclass(frozen=True, slots=True)
class Story:
    """A healthy history and whom it is about: instances that are ACTIVE on h1 and h2, STOPPED on
    h1, in ERROR, DELETED.
    """

    history: History
    active: str
    other: str
    stopped: str
    failed: str
    deleted: str


def story() -> Story:
    """The same each time."""
    author = Author()
    active = author.create("p", "h1")
    other = author.create("q", "h2")
    stopped = author.create("p", "h1")
    author.power(stopped, "Stop")
    author.power(active, "Reboot")
    failed = author.create("q", "h2", fails=True)
    deleted = author.create("p", "h2")
    author.delete(deleted)
    author.watch_again("p")
    author.power(other, "Reboot")
    return Story(author.history(), active, other, stopped, failed, deleted)


def _dumped(history: History, **tables: Sequence[Row]) -> History:
    return replace(history, dump=replace(history.dump, **tables))


def _amended(rows: Sequence[Row], index: int, **changes: Any) -> list[Row]:
    return [{**row, **changes} if n == index else row for n, row in enumerate(rows)]


def _at(rows: Sequence[Row], **wanted: Any) -> int:
    """Where the last such row stands."""
    return max(n for n, row in enumerate(rows) if wanted.items() <= row.items())


def _happened(history: History, event: HostEvent) -> History:
    return replace(history, host_events=(*history.host_events, event))


def _late(history: History) -> float:
    return max(event.at_s for event in history.host_events) + 1.0


def two_hosts(s: Story) -> History:
    """A guest starts elsewhere under its own epoch while it runs."""
    (event,) = (e for e in s.history.host_events if e.instance_id == s.active
                and e.what is What.PREPARED)  # fmt: skip
    event = replace(event, host_id="h2", what=What.STARTED, at_s=_late(s.history))
    return _happened(s.history, event)


def too_much_used(s: Story) -> History:
    """A commit of a host with a target of nothing, above which the next claim rises."""
    changes = list(s.history.dump.changes)
    first = next(n for n, c in enumerate(changes) if c["ledger"] and c["ledger"][-1] > 0)
    ledger = [0, 0, 0, *changes[first]["ledger"][3:]]
    return _dumped(s.history, changes=_amended(changes, first, ledger=ledger))


def sum_forgotten(s: Story) -> History:
    """A host's row counts a claim that is not there."""
    hosts = s.history.dump.hosts
    return _dumped(s.history, hosts=_amended(hosts, 0, used_vcpus=hosts[0]["used_vcpus"] + 1))


def stray_guest(s: Story) -> History:
    """A guest stands on a host for an instance of which the host has no claim."""
    stray = {"host_id": "h1", "instance_id": s.other, "epoch": 1, "running": False, **TAKES}
    return _dumped(s.history, guests=(*s.history.dump.guests, stray))


def stuck_build(s: Story) -> History:
    """An instance is left where it is on its way."""
    index = _at(s.history.dump.instances, id=s.failed)
    amended = {"state": State.BUILDING.value, "task": Task.SPAWNING.value}
    amended_log = _amended(
        s.history.dump.changes, _at(s.history.dump.changes, id=s.failed), **amended
    )
    rows = _amended(s.history.dump.instances, index, **amended)
    return _dumped(s.history, instances=rows, changes=amended_log)


def lost_create(s: Story) -> History:
    """A client was promised an instance that nobody knows."""
    call = next(c for c in s.history.calls if c.method == "CreateInstance")
    lost = replace(call, request_id="r-lost", resource_id="i-lost", ending=Ending.OK)
    return replace(s.history, calls=(*s.history.calls, replace(lost, operation_id="")))


def undead(s: Story) -> History:
    """A deleted instance has a guest left, under a claim that nobody removes."""
    epoch = _epoch(s, s.deleted)
    left = {"host_id": "h2", "instance_id": s.deleted, "epoch": epoch, **TAKES}
    claim = {**left, "role": ClaimRole.LEAVING.value, "vcpus": 0, "memory_mib": 0, "disk_gib": 0}
    hosts = s.history.dump.hosts
    host = _amended(hosts, 1, claim_count=hosts[1]["claim_count"] + 1)
    guests = (*s.history.dump.guests, {**left, "running": False})
    return _dumped(s.history, guests=guests, claims=(*s.history.dump.claims, claim), hosts=host)


def _epoch(s: Story, instance_id: str) -> int:
    rows = s.history.dump.instances
    return int(rows[_at(rows, id=instance_id)]["epoch"])


def made_after_delete(s: Story) -> History:
    """A late command makes the guest again, and it is erased again."""
    event = next(e for e in reversed(s.history.host_events) if e.instance_id == s.deleted)
    again = replace(event, what=What.PREPARED, at_s=_late(s.history))
    gone = replace(again, what=What.ERASED, at_s=again.at_s + 1)
    return _happened(_happened(s.history, again), gone)


def deleted_yet_alive(s: Story) -> History:
    """An operation says that an instance is deleted which is not."""
    rows = s.history.dump.operations
    index = next(n for n, row in enumerate(rows) if row["action"] == 2)
    return _dumped(s.history, operations=_amended(rows, index, resource_id=s.active))


def called_off_yet_done(s: Story) -> History:
    """A create was called off, says the answer, and went on."""
    call = next(c for c in s.history.calls if c.method == "CreateInstance")
    off = replace(
        call, method="CancelOperation", request_id="off", resource_id=call.operation_id, version=1
    )
    return replace(s.history, calls=(*s.history.calls, off))


def another_answer(s: Story) -> History:
    """A repeated request is answered with another operation."""
    call = next(c for c in s.history.calls if c.ending is Ending.OK)
    other = next(c for c in reversed(s.history.calls) if c.resource_id == call.resource_id)
    assert other.operation_id != call.operation_id
    again = replace(call, operation_id=other.operation_id)
    return replace(s.history, calls=(*s.history.calls, again))


def another_payload(s: Story) -> History:
    """A request id is good for a second payload."""
    call = next(c for c in s.history.calls if c.ending is Ending.OK)
    return replace(s.history, calls=(*s.history.calls, replace(call, fingerprint="other")))


def made_twice(s: Story) -> History:
    """One create request made two instances."""
    rows = s.history.dump.requests
    index = _at(rows, method="CreateInstance", resource_id=s.deleted)
    again = {**rows[index], "caller": "another", "resource_id": s.failed}
    return _dumped(s.history, requests=(*rows, again))


def prepared_twice(s: Story) -> History:
    """A command that came twice has two effects."""
    event = next(e for e in s.history.host_events if e.what is What.PREPARED)
    return _happened(s.history, replace(event, at_s=_late(s.history)))


def stale_row(s: Story) -> History:
    """A late observation stands for the last one: a guest runs whose instance is STOPPED."""
    guests = s.history.dump.guests
    index = _at(guests, instance_id=s.stopped)
    return _dumped(s.history, guests=_amended(guests, index, running=True))


def vanished_guest(s: Story) -> History:
    """A guest is gone, and nobody says so."""
    guests = [g for g in s.history.dump.guests if g["instance_id"] != s.active]
    return _dumped(s.history, guests=guests)


def _told(s: Story, keep: Callable[[Seen | Mark], bool]) -> History:
    return replace(s.history, seen=tuple(one for one in s.history.seen if keep(one)))


def change_missed(s: Story) -> History:
    """One change did not come to one watcher."""
    missed = next(o for o in s.history.seen if isinstance(o, Seen) and o.version == 2)
    return _told(s, lambda one: one is not missed)


def change_twice(s: Story) -> History:
    """One change came twice."""
    seen = list(s.history.seen)
    place = next(n for n, o in enumerate(seen) if isinstance(o, Seen) and o.version == 2)
    return replace(s.history, seen=(*seen[: place + 1], *seen[place:]))


def silent_restart(s: Story) -> History:
    """A resumed stream begins with a snapshot that was not asked for: what was between is lost
    without a word.
    """
    seen = list(s.history.seen)
    place = next(n for n, o in enumerate(seen) if isinstance(o, Mark) and o.sign is Sign.RESUMED)
    begun = Mark(seen[place].watcher, Sign.BEGUN)
    return replace(s.history, seen=(*seen[:place], begun, *seen[place + 1 :]))


def record_left_out(s: Story) -> History:
    """A commit took a revision and did not log it; nobody could be told."""
    log = s.history.dump.changes
    left_out = log[_at(log[:-12], kind=2, version=2)]
    changes = [row for row in log if row is not left_out]
    rows = s.history.dump.operations
    index = _at(rows, id=left_out["id"])
    row = {"version": left_out["version"] - 1, "revision": log[_at(changes, id=left_out["id"])]}
    row["revision"] = changes[_at(changes, id=left_out["id"])]["revision"]
    return _dumped(s.history, changes=changes, operations=_amended(rows, index, **row))


def row_ahead(s: Story) -> History:
    """A row was written without a word in the log."""
    rows = s.history.dump.operations
    return _dumped(s.history, operations=_amended(rows, 0, version=rows[0]["version"] + 1))


def snapshot_short(s: Story) -> History:
    """A snapshot lacks an instance."""
    seen = [o for o in s.history.seen if isinstance(o, Seen) and o.watcher == "watcher "]
    last = {o.id: o for o in seen}
    alive = [replace(o, snapshot=True) for o in last.values() if not o.deleted]
    head = s.history.dump.changes[-1]["revision"]
    late = "a late watcher"
    told: list[Seen | Mark] = [Mark(late, Sign.BEGUN, scope="")]
    told += [replace(o, watcher=late) for o in alive[1:]]
    told.append(Mark(late, Sign.DONE, head))
    return replace(s.history, seen=(*s.history.seen, *told))


def illegal_move(s: Story) -> History:
    """An instance goes from REQUESTED to ACTIVE at once."""
    log = s.history.dump.changes
    built = next(n for n, c in enumerate(log) if c["id"] == s.active and c["version"] == 2)
    active = {"state": State.ACTIVE.value, "task": Task.NONE.value}
    return _dumped(s.history, changes=_amended(log, built, **active))


def row_elsewhere(s: Story) -> History:
    """An instance's row says another state than the log."""
    rows = s.history.dump.instances
    error = {"state": State.STOPPED.value}
    gone = [g for g in s.history.dump.guests if g["instance_id"] == s.active]
    guests = [{**g, "running": False} if g in gone else g for g in s.history.dump.guests]
    index = _at(rows, id=s.active)
    return _dumped(s.history, instances=_amended(rows, index, **error), guests=guests)


def quota_leak(s: Story) -> History:
    """A project pays for what it gave back."""
    rows = s.history.dump.projects
    more = rows[0]["used_instances"] + 1
    return _dumped(s.history, projects=_amended(rows, 0, used_instances=more))


def quota_passed(s: Story) -> History:
    """A create was accepted above its project's own limit."""
    limited = {"kind": 6, "id": "p", "project_id": "p", "version": 1, "epoch": 0,
               "deleted": False, "public": False, "ledger": [2, None, None, None]}  # fmt: skip
    log = [{**limited, "revision": 1}]
    log += [{**row, "revision": row["revision"] + 1} for row in s.history.dump.changes]
    return _shifted(replace(s.history, dump=replace(s.history.dump, changes=tuple(log))))


def _shifted(history: History) -> History:
    """All that follows a new first revision: rows, epochs and streams, one higher."""

    def up(row: Row) -> Row:
        named = {n: row[n] + 1 for n in ("epoch", "revision") if row.get(n)}
        return {**row, **named}

    dump = history.dump
    tables = {f.name: tuple(map(up, getattr(dump, f.name))) for f in fields(dump)}
    log = [{**r, "epoch": r["epoch"] + 1 if r["epoch"] else 0} for r in dump.changes]
    tables["changes"] = tuple(log)
    seen = tuple(
        replace(o, revision=o.revision + 1) if isinstance(o, Seen) or o.revision else o
        for o in history.seen
    )
    events = tuple(replace(e, epoch=e.epoch + 1) for e in history.host_events)
    return replace(history, dump=replace(dump, **tables), seen=seen, host_events=events)


def old_answer(s: Story) -> History:
    """A client is shown a version before the one that it made."""
    call = next(c for c in s.history.calls if c.ending is Ending.OK)
    newer = replace(call, method="GetInstance", request_id="", version=3, operation_id="")
    older = replace(newer, version=2, invoked_s=newer.ended_s + 1, ended_s=newer.ended_s + 2)
    return replace(s.history, calls=(*s.history.calls, newer, older))


def old_epoch(s: Story) -> History:
    """A host starts a stopped guest under an epoch that nobody granted it."""
    event = next(e for e in reversed(s.history.host_events) if e.instance_id == s.stopped)
    begun = replace(event, what=What.STARTED, epoch=event.epoch - 1, at_s=_late(s.history))
    ended = replace(begun, what=What.STOPPED, at_s=begun.at_s + 1)
    return _happened(_happened(s.history, begun), ended)


def left_under_way(s: Story) -> History:
    """An operation is not driven to its end."""
    rows = s.history.dump.operations
    return _dumped(s.history, operations=_amended(rows, 0, state=OperationState.RUNNING.value))


def no_reason(s: Story) -> History:
    """An operation failed and does not say why."""
    rows = s.history.dump.operations
    index = _at(rows, state=OperationState.FAILED.value)
    return _dumped(s.history, operations=_amended(rows, index, reason=""))


def another_tenant(s: Story) -> History:
    """A watch of one project shows another's instance, which is there, in its snapshot."""
    told = [Mark("of q", Sign.BEGUN, scope="q"), Mark("of q", Sign.DONE, 0)]
    seen = next(o for o in s.history.seen if isinstance(o, Seen) and o.project_id == "p")
    foreign = replace(seen, watcher="of q", snapshot=True)
    return replace(
        s.history, seen=(*s.history.seen, told[0], foreign, Mark("of q", Sign.COMPACTED))
    )


# What is found, and by whom; where several must see it, it breaks several.
def audit_that_tells(s: Story) -> History:
    """An audit of the quiet cloud finds a ledger that is off."""
    return replace(s.history, differences=({"kind": "LEDGER_DIFFERS", "host_id": "h1"},))


BREAKS: dict[Callable[[Story], History], set[str]] = {
    two_hosts: {"I1 one host", "I8 single effects", "I20 fenced starts"},
    too_much_used: {"I2 room"},
    sum_forgotten: {"I2 room"},
    stray_guest: {"I3 claimed guests"},
    stuck_build: {"I4 ended creates"},
    lost_create: {"I4 ended creates"},
    undead: {"I5 held by the dead"},
    made_after_delete: {"I6 kept deletes"},
    deleted_yet_alive: {"I6 deleted as told"},
    called_off_yet_done: {"I6 called off as told"},
    another_answer: {"I7 repeated requests"},
    another_payload: {"I7 repeated requests"},
    made_twice: {"I7 made once"},
    prepared_twice: {"I8 single effects"},
    stale_row: {"I9 true rows"},
    vanished_guest: {"I9 true rows"},
    change_missed: {"I12 whole streams"},
    change_twice: {"I12 whole streams"},
    silent_restart: {"I12 whole streams"},
    record_left_out: {"I12 gapless log"},
    row_ahead: {"I12 last words"},
    snapshot_short: {"I13 same state"},
    illegal_move: {"I14 legal moves"},
    row_elsewhere: {"I14 agreed rows"},
    quota_leak: {"I15 quotas"},
    quota_passed: {"I15 quotas"},
    old_answer: {"I18 own writes"},
    old_epoch: {"I20 fenced starts"},
    left_under_way: {"I22 ended operations"},
    no_reason: {"I23 told reasons"},
    another_tenant: {"I24 own project"},
    audit_that_tells: {"empty audit"},
}
