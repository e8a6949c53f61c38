"""Situations for tests of the conductor's logic."""

from __future__ import annotations

from dataclasses import replace

from services.conductor.logic import evacuation, lifecycle, power
from services.conductor.logic.items import ClaimAct, Item
from services.conductor.logic.observation import Seen
from services.conductor.logic.operations import Author, new_operation
from services.conductor.logic.rows import (
    NEW_STANDING,
    ClaimRow,
    Fence,
    HostRow,
    ImageReference,
    InstanceRow,
    OperationRow,
    Situation,
    Wanted,
)
from services.domain.instance import Action, Illegal, Power
from services.domain.kinds import Architecture, ClaimRole, FenceKind, HostState, ImageKind
from services.domain.operation import OperationAction
from services.domain.resources import NOTHING, Overcommit, Resources
from services.runtime.ids import new_id

POWER_OPERATIONS = {
    Action.START: OperationAction.START_INSTANCE,
    Action.STOP: OperationAction.STOP_INSTANCE,
    Action.REBOOT: OperationAction.REBOOT_INSTANCE,
    Action.HARD_REBOOT: OperationAction.REBOOT_INSTANCE,
    Action.PAUSE: OperationAction.PAUSE_INSTANCE,
    Action.UNPAUSE: OperationAction.UNPAUSE_INSTANCE,
    Action.SUSPEND: OperationAction.SUSPEND_INSTANCE,
    Action.RESUME: OperationAction.RESUME_INSTANCE,
}
IMAGE = ImageReference("a" * 64, 10, ImageKind.KERNEL, Architecture.X86_64)


def instance(name: str = "web", **changes: object) -> InstanceRow:
    """A new instance of project p, as acceptance makes it."""
    row = InstanceRow(
        id=new_id(),
        project_id="p",
        name=name,
        standing=NEW_STANDING,
        power=Power.PENDING,
        flavor_id=new_id(),
        image_id=new_id(),
        labels={"a": "b"},
        resources=Resources(1, 100, 1),
        wanted=Wanted(True, Power.RUNNING, 1, IMAGE, (), b""),
        created_at_s=1.0,
    )
    return replace(row, **changes)  # type: ignore[arg-type]  # the caller names fields of the row


def requested(row: InstanceRow | None = None) -> Situation:
    """An accepted instance without a host, and its operation."""
    row = row or instance(version=1, revision=1)
    operation = new_operation(
        new_id(),
        row,
        action=OperationAction.CREATE_INSTANCE,
        author=Author("me", new_id()),
        now_s=1.0,
    )
    return Situation(row, operation, ())


def claim(row: InstanceRow, host_id: str = "h1", epoch: int = 7) -> ClaimRow:
    """A holder's claim."""
    return ClaimRow(row.id, epoch, host_id, ClaimRole.HOLDER, epoch, 1, HostState.UP)


def seen(row: InstanceRow, sequence: int = 1, **changes: object) -> Seen:
    """What host h1 sees under the claim of epoch 7: a guest that runs as wanted."""
    values: dict[str, object] = {
        "applied_generation": row.generation,
        "power": Power.RUNNING,
        "absent": False,
    }
    return Seen(row.id, 7, "h1", 1, sequence, **(values | changes))  # type: ignore[arg-type]  # as above


def begun(situation: Situation, action: OperationAction, now_s: float = 4.0) -> OperationRow:
    """The operation of a wish about the instance."""
    author = Author("me", new_id())
    return new_operation(new_id(), situation.instance, action=action, author=author, now_s=now_s)


def applied(situation: Situation, item: Item | None) -> Situation:
    """The situation after the item was committed, as the store would show it."""
    if item is None:
        return situation
    claims = list(situation.claims)
    row = situation.instance
    if item.instance is not None:
        row = replace(item.instance, version=row.version + 1, revision=row.revision + 1)
    for change in item.claims:
        if change.act is ClaimAct.ADD:
            claims.append(claim(row, change.host_id, row.revision))
            row = replace(row, epoch=row.revision)
        elif change.act is ClaimAct.REMOVE:
            claims = [c for c in claims if c.epoch != change.epoch]
        elif change.act is ClaimAct.LEAVE:
            claims = [
                replace(c, role=ClaimRole.LEAVING, discard=c.discard or change.discard)
                if c.epoch == change.epoch
                else c
                for c in claims
            ]
    operation = situation.operation
    for changed in item.operations:
        operation = None if changed.finished else changed
    return Situation(row, operation, tuple(claims))


def building() -> Situation:
    """An instance under a claim of h1 with epoch 7."""
    situation = requested(instance(version=1, revision=6))
    return applied(situation, lifecycle.claimed(situation, "h1", 2.0))


def active() -> Situation:
    """An instance that runs as wanted."""
    situation = building()
    return applied(situation, lifecycle.observed(situation, seen(situation.instance), 3.0))


def delete(situation: Situation) -> Situation:
    """The situation after its owner asked for its end."""
    operation = begun(situation, OperationAction.DELETE_INSTANCE)
    item = lifecycle.delete_asked(situation, operation, 4.0)
    assert isinstance(item, Item)
    return applied(situation, item)


def asked(situation: Situation, action: Action, grace_s: int = 0) -> Item | Illegal:
    """What is committed when the owner turns the power switch."""
    operation = begun(situation, POWER_OPERATIONS[action])
    return power.power_asked(situation, action, operation, grace_s)


def switching(action: Action, grace_s: int = 0) -> Situation:
    """An instance whose power switch is being turned."""
    situation = ready(action)
    item = asked(situation, action, grace_s)
    assert isinstance(item, Item)
    return applied(situation, item)


def ready(action: Action) -> Situation:
    """An instance of which it can be asked."""
    return resting(
        {
            Action.START: Power.OFF,
            Action.UNPAUSE: Power.PAUSED,
            Action.RESUME: Power.SUSPENDED,
        }.get(action, Power.RUNNING)
    )


def resting(power: Power) -> Situation:
    """An instance whose guest came to this by itself."""
    situation = active()
    now = seen(situation.instance, 2, power=power)
    return applied(situation, lifecycle.observed(situation, now, 3.5))


def stopped() -> Situation:
    """An instance whose guest went off by itself."""
    return resting(Power.OFF)


def evacuating() -> Situation:
    """An instance that ran on h1, which is DOWN and fenced, waits for another host."""
    situation = active()
    operation = begun(situation, OperationAction.EVACUATE_INSTANCE)
    item = evacuation.evacuated(situation, {"h1": dead_host()}, operation)
    assert isinstance(item, Item)
    return applied(situation, item)


def rebuilding() -> Situation:
    """The same, under a claim of h2."""
    situation = evacuating()
    return applied(situation, lifecycle.claimed(situation, "h2", 5.0))


def dead_host(host_id: str = "h1") -> HostRow:
    """A host that is DOWN, and fenced."""
    return HostRow(
        id=host_id, seen_edition=3, machine_id="m", boot_id="b", state=HostState.DOWN, enabled=True,
        incarnation=1, capacity=Resources(8, 8, 8), reserved=NOTHING, overcommit=Overcommit(),
        target=Resources(8, 8, 8), capabilities=b"", agent_version="1", created_at_s=1.0,
        fence=Fence(1, FenceKind.VOUCHED, "ann", "burnt", 4.0),
    )  # fmt: skip
