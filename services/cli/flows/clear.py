"""Ending every guest of a cloud, as its users would: by deleting the instances and waiting."""

import time
from collections.abc import Mapping
from typing import Any

from services.cli.flows.ports import Instances, Tell
from services.cli.logic.words import counted
from services.domain.errors import Unavailable

CLEAR_S = 300.0
ROUNDS_MAX = 10


def delete_everything(instances: Instances, *, tell: Tell, timeout_s: float = CLEAR_S) -> int:
    """Deletes all instances of all projects; how many. Raises Unavailable if some are left at the
    end.
    """
    until_s = time.monotonic() + timeout_s
    deleted: set[str] = set()
    for _ in range(ROUNDS_MAX):
        living = instances.instances_all()
        if not living:
            return len(deleted)
        tell(f"deleting {counted(len(living), 'instance')}, guests too")
        accepted = [instances.instance_delete(str(instance["id"])) for instance in living]
        deleted.update(str(instance["id"]) for instance in living)
        for operation in accepted:
            if operation is not None:
                _wait(instances, operation, until_s)
    raise Unavailable("GUESTS_LEFT", "new instances keep being made; nothing was stopped")


def running_guests(instances: Instances) -> int:
    """How many guests run, by the newest word of their hosts."""
    return sum(1 for i in instances.instances_all() if i["power"] == "INSTANCE_POWER_RUNNING")


def _wait(instances: Instances, operation: Mapping[str, Any], until_s: float) -> None:
    while operation["state"] == "OPERATION_STATE_RUNNING":
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise Unavailable(
                "GUESTS_LEFT",
                f"instance {operation['resource_id']} is not gone yet; nothing was stopped, "
                "see `stead host list` and try again",
            )
        operation = instances.operation_wait(str(operation["id"]), min(5.0, left_s))
