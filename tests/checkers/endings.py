"""What was accepted ends, with a reason, and what was deleted stays so."""

from __future__ import annotations

from collections.abc import Iterator

from services.domain.instance import State, Task
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction, OperationState
from tests.checkers.history import Ending, HostEvent, What
from tests.checkers.past import Change, Past, fault_of, standing_of

UNBUILT = (State.REQUESTED, State.BUILDING)


def ended_creates(past: Past) -> Iterator[str]:
    """I4: every accepted create ends: its instance is there, and neither on its way nor under work
    that nobody drives.
    """
    for call in past.calls("CreateInstance"):
        if call.ending is Ending.OK and call.resource_id not in past.instances:
            yield f"instance {call.resource_id} was promised to {call.client} and is nowhere"
    for row in past.instances.values():
        standing = standing_of(row)
        if standing.state in UNBUILT or standing.task is not Task.NONE:
            yield f"instance {row['id']} is left {standing.state.name}/{standing.task.name}"


def ended_operations(past: Past) -> Iterator[str]:
    """I22: nothing is left under way, and every operation that a client was told of is there."""
    for row in past.operations.values():
        if int(row["state"]) == OperationState.RUNNING:
            yield f"operation {row['id']} ({row['action']}) has not ended"
    promised = {c.operation_id: c for c in past.calls() if c.operation_id}
    for operation_id in promised.keys() - past.operations.keys():
        call = promised[operation_id]
        yield f"operation {operation_id} of {call.method} by {call.client} is nowhere"


def told_reasons(past: Past) -> Iterator[str]:
    """I23: what did not end as asked says why: each failed or cancelled operation has a reason,
    each refused call one, and an instance in ERROR an operation or a change that led there.
    """
    for row in past.operations.values():
        unhappy = int(row["state"]) in (OperationState.FAILED, OperationState.CANCELLED)
        if unhappy and ("reason" in row or "body" in row) and not fault_of(row):
            yield f"operation {row['id']} ended without a reason"
    for call in past.calls():
        if call.ending is Ending.REFUSED and not call.reason:
            yield f"{call.method} by {call.client} was refused without a reason"


def kept_deletes(past: Past) -> Iterator[str]:
    """I6: after an acknowledged delete no claim is granted any more, and what a host has erased
    since then, or confirmed as absent, it never makes or starts again.
    """
    acknowledged = _acknowledged(past)
    for (kind, id_), versions in past.versions.items():
        if kind is ResourceKind.INSTANCE:
            yield from _granted_late(id_, versions)
    for instance_id, deleted_s in acknowledged.items():
        erased: dict[str, HostEvent] = {}
        for event in past.events.get(instance_id, []):
            if event.what is What.ERASED and event.at_s >= deleted_s:
                erased[event.host_id] = event
            elif event.what in (What.PREPARED, What.STARTED) and event.host_id in erased:
                yield f"{instance_id} is {event.what.value} on {event.host_id} after its delete"


def _acknowledged(past: Past) -> dict[str, float]:
    """When the delete of each instance was first answered."""
    found: dict[str, float] = {}
    for call in past.calls("DeleteInstance"):
        if call.ending is Ending.OK and call.resource_id:
            first_s = found.get(call.resource_id, call.ended_s)
            found[call.resource_id] = min(first_s, call.ended_s)
    return found


def _granted_late(instance_id: str, versions: list[Change]) -> Iterator[str]:
    going = False
    for change in versions:
        if going and change.epoch == change.revision:
            yield f"{instance_id} gets claim {change.epoch} after its delete was accepted"
        if change.standing is not None:
            going = going or change.standing.task is Task.DELETING or change.deleted


def deleted_as_told(past: Past) -> Iterator[str]:
    """I6: an instance whose delete ended DONE is DELETED, and so for ever."""
    for row in past.operations.values():
        done = int(row["state"]) == OperationState.DONE
        if done and int(row["action"]) == OperationAction.DELETE_INSTANCE:
            instance = past.instances.get(str(row["resource_id"]))
            if instance is not None and standing_of(instance).state is not State.DELETED:
                yield f"{row['resource_id']} lives after its delete was done"


def called_off_as_told(past: Past) -> Iterator[str]:
    """I6: what was called off is CANCELLED for ever, and what it was to make is DELETED."""
    for call in past.calls("CancelOperation"):
        row = past.operations.get(call.resource_id)
        if call.ending is not Ending.OK or row is None:
            continue
        if int(row["state"]) != OperationState.CANCELLED:
            yield f"operation {row['id']} was called off and is {row['state']}"
        instance = past.instances.get(str(row["resource_id"]))
        if instance is not None and standing_of(instance).state is not State.DELETED:
            yield f"{row['resource_id']} lives after its create was called off"


def empty_audit(past: Past) -> Iterator[str]:
    """An audit of a cloud that is whole and quiet tells nothing."""
    for found in past.history.differences:
        yield f"the audit tells {dict(found)}"
