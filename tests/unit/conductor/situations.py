"""Situations for tests of the conductor's logic."""

from __future__ import annotations

from dataclasses import replace

from services.conductor.logic.lifecycle import Author, Seen, new_operation
from services.conductor.logic.rows import (
    NEW_STANDING,
    ClaimRow,
    ImageReference,
    InstanceRow,
    Situation,
    Wanted,
)
from services.domain.instance import Power
from services.domain.kinds import Architecture, ClaimRole, HostState, ImageKind
from services.domain.operation import OperationAction
from services.domain.resources import Resources
from services.runtime.ids import new_id

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
        wanted=Wanted(True, True, 1, IMAGE, (), b""),
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
