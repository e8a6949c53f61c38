"""The rows of a simulated cloud at its end, under the names of the database, as chaos reads."""

from __future__ import annotations

from typing import Any

from services.domain.resources import Resources
from tests.checkers.history import Dump
from tests.fakes.store_rows import quota
from tests.simulation.world import World


def _resources(prefix: str, amounts: Resources) -> dict[str, int]:
    return {
        f"{prefix}vcpus": amounts.vcpus,
        f"{prefix}memory_mib": amounts.memory_mib,
        f"{prefix}disk_gib": amounts.disk_gib,
    }


def dump_of(world: World) -> Dump:
    """All of it."""
    rows = world.store.rows
    return Dump(
        instances=[_instance(row) for row in rows.instances.values()],
        claims=[_claim(claim) for claim in rows.claims.values()],
        hosts=[_host(host) for host in rows.hosts.values()],
        operations=[_operation(known.row) for known in rows.operations.values()],
        requests=[
            {
                "project_id": key.project_id,
                "caller": key.caller,
                "method": key.method,
                "request_id": key.request_id,
                "fingerprint": key.fingerprint.hex(),
                "resource_id": key.resource_id,
                "operation_id": key.operation_id,
            }
            for key in rows.requests.values()
        ],
        projects=[_project(id_, project) for id_, project in rows.projects.items()],
        changes=[_change(record) for record in rows.log],
        guests=[
            {
                "host_id": host_id,
                "instance_id": guest.instance_id,
                "epoch": guest.epoch,
                "power": guest.power,
                "prepared": guest.prepared,
                "applied_generation": guest.applied_generation,
                **_resources("", Resources(guest.vcpus, guest.memory_mib, guest.disk_gib)),
            }
            for host_id, machine in world.machines.items()
            for guest in machine.guests.values()
        ],
    )


def _instance(row: Any) -> dict[str, object]:
    return {
        "id": row.id,
        "project_id": row.project_id,
        "name": row.name,
        "state": row.standing.state.value,
        "task": row.standing.task.value,
        "power": row.power.value,
        "host_id": row.host_id,
        "generation": row.generation,
        "epoch": row.epoch,
        "attempt": row.attempt,
        "deleted": row.deleted,
        "version": row.version,
        "revision": row.revision,
        **_resources("", row.resources),
    }


def _claim(claim: Any) -> dict[str, object]:
    return {
        "instance_id": claim.instance_id,
        "epoch": claim.epoch,
        "host_id": claim.host_id,
        "role": claim.role.value,
        "discard": claim.discard,
        "wanted_revision": claim.wanted_revision,
        "incarnation": claim.incarnation,
        "sequence": claim.sequence,
        **_resources("", claim.resources),
    }


def _host(host: Any) -> dict[str, object]:
    row = host.row
    pairs = zip(host.ledger[:3], host.ledger[3:6], strict=True)
    ceiling = Resources(*(max(pair) for pair in pairs))
    return {
        "id": row.id,
        "state": row.state.value,
        "incarnation": row.incarnation,
        **_resources("target_", row.target),
        **_resources("used_", host.used),
        **_resources("ceiling_", ceiling),
        "claim_count": host.claims,
        "version": host.version,
        "revision": host.revision,
    }


def _operation(row: Any) -> dict[str, object]:
    return {
        "id": row.id,
        "project_id": row.project_id,
        "resource_id": row.resource_id,
        "action": row.action.value,
        "state": row.state.value,
        "phase": row.phase.value,
        "tries": row.tries,
        "finished": row.finished,
        "version": row.version,
        "revision": row.revision,
    }


def _project(id_: str, project: Any) -> dict[str, object]:
    nouns = ("instances", "vcpus", "memory_mib", "disk_gib")
    limits = (None,) * 4 if project.row.limits is None else quota(project.row.limits)
    used = quota(project.used)
    return {
        "id": id_,
        **{f"limit_{noun}": limit for noun, limit in zip(nouns, limits, strict=True)},
        **{f"used_{noun}": amount for noun, amount in zip(nouns, used, strict=True)},
        "deleted": project.row.deleted,
        "version": project.row.version,
        "revision": project.row.revision,
    }


def _change(record: Any) -> dict[str, object]:
    return {
        "revision": record.revision,
        "kind": record.kind.value,
        "id": record.id,
        "project_id": record.project_id,
        "version": record.version,
        "epoch": record.epoch,
        "deleted": record.deleted,
        "public": record.public,
        "ledger": list(record.ledger),
        "body": record.body,
    }
