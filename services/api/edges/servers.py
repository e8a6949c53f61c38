"""The two servers of api: the public one with tokens, rules, health and reflection, and the door of
computes.

Owns which services stand on which server, and keepalive: a watcher may ping every 10 s without
being sent away.
"""

from collections.abc import Iterable

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from stead.internal.v1 import compute_pb2_grpc
from stead.v1 import (
    flavor_pb2,
    flavor_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
)

from services.api.edges.authentication import Authentication
from services.api.edges.compute_ingress import ComputeIngress
from services.api.edges.flavor_servicer import FlavorServicer
from services.api.edges.host_servicer import HostServicer
from services.api.edges.image_servicer import ImageServicer
from services.api.edges.instance_servicer import InstanceServicer
from services.api.edges.operation_servicer import OperationServicer
from services.api.edges.refusals import Refusals
from services.api.edges.validation import Validation
from services.runtime import rpc
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
    for file in (instance_pb2, operation_pb2, flavor_pb2, image_pb2, host_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

Servicer = InstanceServicer | OperationServicer | FlavorServicer | ImageServicer | HostServicer


def public_server(
    servicers: Iterable[Servicer], *, authentication: Authentication, health: Health
) -> grpc.aio.Server:
    """The server for users, not started."""
    server = rpc.server(Refusals(), authentication, Validation(), options=KEEPALIVE)
    for servicer in servicers:
        match servicer:
            case InstanceServicer():
                instance_pb2_grpc.add_InstanceServiceServicer_to_server(servicer, server)
            case OperationServicer():
                operation_pb2_grpc.add_OperationServiceServicer_to_server(servicer, server)
            case FlavorServicer():
                flavor_pb2_grpc.add_FlavorServiceServicer_to_server(servicer, server)
            case ImageServicer():
                image_pb2_grpc.add_ImageServiceServicer_to_server(servicer, server)
            case HostServicer():
                host_pb2_grpc.add_HostServiceServicer_to_server(servicer, server)
    health.add_to(server)
    _add_reflection(server)
    return server


def ingress_server(ingress: ComputeIngress) -> grpc.aio.Server:
    """The server for computes, not started."""
    server = rpc.server(options=KEEPALIVE)
    compute_pb2_grpc.add_ComputeIngressServiceServicer_to_server(ingress, server)
    return server


def _add_reflection(server: grpc.aio.Server) -> None:
    names = (*SERVICES, "grpc.health.v1.Health", REFLECTION_V1, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    # Version 1 has the same messages as v1alpha under another name; the package has only the older.
    answering = reflection.aio.ReflectionServicer(names)
    method = grpc.stream_stream_rpc_method_handler(
        answering.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(REFLECTION_V1, {"ServerReflectionInfo": method}),)
    )
