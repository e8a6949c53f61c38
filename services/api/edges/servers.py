"""The two servers of api: the public one with tokens, rules, health and reflection, and the door of
computes.

Owns which services stand on which server, keepalive, and how old a connection gets: a watcher may
ping every 10 s without being sent away; a connection takes no new calls after its age, so that
clients spread over replicas, and what runs on it then has a grace: an upload cannot be resumed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from stead.internal.v1 import compute_pb2_grpc
from stead.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    flavor_pb2,
    flavor_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
    key_pair_pb2,
    key_pair_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
    project_pb2,
    project_pb2_grpc,
    quota_pb2,
    quota_pb2_grpc,
)

from services.api.edges.audit_servicer import AuditServicer
from services.api.edges.authentication import Authentication, Strangers
from services.api.edges.compute_ingress import ComputeIngress
from services.api.edges.desk import Desk
from services.api.edges.flavor_servicer import FlavorServicer
from services.api.edges.host_servicer import HostServicer
from services.api.edges.image_servicer import ImageServicer
from services.api.edges.instance_servicer import InstanceServicer
from services.api.edges.key_pair_servicer import KeyPairServicer
from services.api.edges.operation_servicer import OperationServicer
from services.api.edges.project_servicer import ProjectServicer, QuotaServicer
from services.api.edges.refusals import Refusals
from services.api.edges.tokens import Tokens
from services.api.edges.validation import Validation
from services.api.flows.audit import Audits
from services.api.flows.ports import ImageStore
from services.api.flows.read_console import ConsoleRoad
from services.runtime import rpc
from services.runtime.reflection import add_reflection
from services.runtime.serve import Health

KEEPALIVE = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", 1000),
)
SERVICES: tuple[str, ...] = tuple(
    service.full_name
    for file in (
        instance_pb2,
        operation_pb2,
        flavor_pb2,
        image_pb2,
        host_pb2,
        key_pair_pb2,
        project_pb2,
        quota_pb2,
        audit_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
)
_ADDING: Mapping[type, Callable[[Any, grpc.aio.Server], None]] = {
    InstanceServicer: instance_pb2_grpc.add_InstanceServiceServicer_to_server,
    OperationServicer: operation_pb2_grpc.add_OperationServiceServicer_to_server,
    FlavorServicer: flavor_pb2_grpc.add_FlavorServiceServicer_to_server,
    ImageServicer: image_pb2_grpc.add_ImageServiceServicer_to_server,
    HostServicer: host_pb2_grpc.add_HostServiceServicer_to_server,
    KeyPairServicer: key_pair_pb2_grpc.add_KeyPairServiceServicer_to_server,
    ProjectServicer: project_pb2_grpc.add_ProjectServiceServicer_to_server,
    QuotaServicer: quota_pb2_grpc.add_QuotaServiceServicer_to_server,
    AuditServicer: audit_pb2_grpc.add_AuditServiceServicer_to_server,
}


def servicers(
    desk: Desk, store: ImageStore, road: ConsoleRoad, audits: Audits
) -> tuple[object, ...]:
    """One for each public service."""
    return (
        InstanceServicer(desk, road),
        OperationServicer(desk),
        FlavorServicer(desk),
        ImageServicer(desk, store),
        HostServicer(desk),
        KeyPairServicer(desk),
        ProjectServicer(desk),
        QuotaServicer(desk),
        AuditServicer(desk, audits),
    )


def public_server(
    answering: Sequence[object],
    *,
    tokens: Tokens,
    health: Health,
    connection_age_s: int,
    connection_age_grace_s: int,
) -> grpc.aio.Server:
    """The server for users, not started. A connection takes calls for its age, 0 for ever; those
    under way then have the grace.
    """
    options = (*KEEPALIVE, *_age(connection_age_s, connection_age_grace_s))
    layers = (Refusals(), Authentication(tokens), Validation())
    server = rpc.server(*layers, options=options)
    for servicer in answering:
        _ADDING[type(servicer)](servicer, server)
    health.add_to(server)
    add_reflection(server, (*SERVICES, "grpc.health.v1.Health"))
    server.add_generic_rpc_handlers((Strangers(tokens),))
    return server


def _age(age_s: int, grace_s: int) -> tuple[tuple[str, int], ...]:
    if age_s == 0:
        return ()
    return (
        ("grpc.max_connection_age_ms", age_s * 1000),
        ("grpc.max_connection_age_grace_ms", grace_s * 1000),
    )


def ingress_server(ingress: ComputeIngress) -> grpc.aio.Server:
    """The server for computes, not started."""
    server = rpc.server(options=KEEPALIVE)
    compute_pb2_grpc.add_ComputeIngressServiceServicer_to_server(ingress, server)
    return server
