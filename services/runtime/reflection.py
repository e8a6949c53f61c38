"""Reflection, version 1 and the older v1alpha, for grpcurl and its like.

Owns that both are served, and described to who asks reflection about itself.
"""

from collections.abc import Iterable

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2

REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: grpc.aio.Server, names: Iterable[str]) -> None:
    """Lets callers ask `server` what the services of these full names look like."""
    shown = (*names, REFLECTION_V1, reflection.SERVICE_NAME)
    _describe_v1()
    reflection.enable_server_reflection(shown, server)
    # Version 1 has the same messages as v1alpha under another name; the package has only the older.
    answering = reflection.aio.ReflectionServicer(shown)
    method = grpc.stream_stream_rpc_method_handler(
        answering.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_registered_method_handlers(REFLECTION_V1, {"ServerReflectionInfo": method})


def _describe_v1() -> None:
    """Puts the file of version 1 beside that of v1alpha, from which only its package differs: `buf
    curl` ends with an error where a service is listed and not described.
    """
    older = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(older)
    text = text_format.MessageToString(older).replace("v1alpha", "v1")
    file = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
