"""The database at the end, as plain rows. Owns the statements."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf import timestamp_pb2
from stead.v1 import operation_pb2

from tests.chaos.homes import ChaosCloud

STATEMENTS = {
    "instances": (
        "SELECT id, project_id, name, state, task, power, host_id, generation, epoch, attempt,"
        " deleted, version, revision, vcpus, memory_mib, disk_gib FROM instance"
    ),
    "claims": "SELECT * FROM claim",
    "hosts": (
        "SELECT id, state, incarnation, target_vcpus, target_memory_mib, target_disk_gib,"
        " used_vcpus, used_memory_mib, used_disk_gib, ceiling_vcpus, ceiling_memory_mib,"
        " ceiling_disk_gib, claim_count, version, revision FROM host"
    ),
    "operations": (
        "SELECT id, project_id, resource_id, action, state, phase, tries, finished, version,"
        " revision, encode(body, 'base64') AS body FROM operation"
    ),
    "requests": (
        "SELECT project_id, caller, method, request_id, encode(fingerprint, 'hex') AS fingerprint,"
        " resource_id, operation_id FROM request"
    ),
    "projects": (
        "SELECT id, limit_instances, limit_vcpus, limit_memory_mib, limit_disk_gib,"
        " used_instances, used_vcpus, used_memory_mib, used_disk_gib, deleted, version, revision"
        " FROM project"
    ),
    "changes": (
        "SELECT revision, kind, id, project_id, version, epoch, deleted, public, ledger,"
        " xmin::text::bigint AS commit,"
        " CASE WHEN kind = 1 THEN encode(body, 'base64') END AS body FROM change ORDER BY revision"
    ),
}


async def dumped(cloud: ChaosCloud) -> dict[str, list[dict[str, Any]]]:
    """Every table that a checker reads."""
    return {name: await cloud.rows(statement) for name, statement in STATEMENTS.items()}


def times_of(operations: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """When each operation was accepted and when it ended, Unix seconds, 0 if it has not; takes
    the stored message out of the rows.
    """
    found = {}
    for row in operations:
        told = operation_pb2.Operation.FromString(base64.b64decode(row.pop("body")))
        found[str(row["id"])] = (_seconds(told.create_time), _seconds(told.end_time))
    return found


def _seconds(moment: timestamp_pb2.Timestamp) -> float:
    return moment.seconds + moment.nanos / 1e9
