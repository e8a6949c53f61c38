"""Hosts that have been silent for ever, put beside the living ones in a test's own database."""

from __future__ import annotations

from collections.abc import Callable

from stead.v1 import host_pb2

from services.runtime.ids import new_id

Sql = Callable[[str], str]


def dead_host(sql: Sql, *, fenced: bool = False) -> str:
    """A host that is DOWN; its id."""
    id_ = f"dead-{new_id()[-12:]}"
    message = host_pb2.Host(id=id_, state=host_pb2.HOST_STATE_DOWN, enabled=True, incarnation=1)
    if fenced:
        message.fence.incarnation = 1
        message.fence.kind = host_pb2.HOST_FENCE_KIND_VOUCHED
        message.fence.actor, message.fence.reason = "a test", "for a test"
    sql(
        "INSERT INTO host (id, machine_id, boot_id, state, incarnation, fenced, target_vcpus,"
        " target_memory_mib, target_disk_gib, ceiling_vcpus, ceiling_memory_mib, ceiling_disk_gib,"
        f" version, revision, body) VALUES ('{id_}', 'm', 'b', 2, 1, {int(fenced)}, 9, 9000, 900,"
        f" 9, 9000, 900, 0, 0, '\\x{message.SerializeToString().hex()}')"
    )
    return id_


def strand(sql: Sql, instance_id: str) -> None:
    """Lets a dead and fenced host hold it. Its guest is where it was built: not there again."""
    host_id = dead_host(sql, fenced=True)
    sql(
        f"UPDATE instance SET excluded_host_ids = ARRAY[host_id] WHERE id = '{instance_id}';"
        f"UPDATE claim SET host_id = '{host_id}' WHERE instance_id = '{instance_id}'"
    )


def tell_of_guest(sql: Sql, host_id: str, instance_id: str, epoch: int) -> None:
    """Lets a dead host have told, with its last report, of a guest that nobody claims."""
    sql(
        "INSERT INTO inventory (host_id, incarnation, number, as_of_revision, cut_short)"
        f" VALUES ('{host_id}', 1, 0, 0, false) ON CONFLICT DO NOTHING;"
        "INSERT INTO guest (host_id, instance_id, epoch, applied_generation, power)"
        f" VALUES ('{host_id}', '{instance_id}', {epoch}, 1, 2)"
    )
