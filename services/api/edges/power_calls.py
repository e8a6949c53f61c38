"""The calls of stead.v1.InstanceService that turn an instance's power switch."""

from typing import Any, Protocol, TypeVar

from stead.v1 import instance_pb2 as pb
from stead.v1 import instance_pb2_grpc, operation_pb2

from services.api.edges import public_messages
from services.api.edges.desk import Desk
from services.api.flows.ports import Accepted, Wish


class Answer(Protocol):
    """An answer of a mutation of an instance."""

    @property
    def instance(self) -> pb.Instance:
        """As committed."""
        ...

    @property
    def operation(self) -> operation_pb2.Operation:
        """The work on it."""
        ...


T = TypeVar("T", bound=Answer)


def filled(response: T, accepted: Accepted, desk: Desk) -> T:
    """The answer with what was accepted."""
    public_messages.fill_instance(response.instance, accepted.resource, desk.caller)
    if accepted.operation is not None:
        public_messages.fill_operation(response.operation, accepted.operation)
    return response


class PowerCalls(instance_pb2_grpc.InstanceServiceServicer):
    """Those calls; the rest of the service is its subclass's."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def StartInstance(
        self, request: pb.StartInstanceRequest, context: Any
    ) -> pb.StartInstanceResponse:
        """Switches an instance on."""
        return await self._switched(request, pb.StartInstanceResponse())

    async def StopInstance(
        self, request: pb.StopInstanceRequest, context: Any
    ) -> pb.StopInstanceResponse:
        """Switches an instance off."""
        return await self._switched(request, pb.StopInstanceResponse())

    async def RebootInstance(
        self, request: pb.RebootInstanceRequest, context: Any
    ) -> pb.RebootInstanceResponse:
        """Boots an instance anew."""
        return await self._switched(request, pb.RebootInstanceResponse())

    async def PauseInstance(
        self, request: pb.PauseInstanceRequest, context: Any
    ) -> pb.PauseInstanceResponse:
        """Freezes an instance."""
        return await self._switched(request, pb.PauseInstanceResponse())

    async def UnpauseInstance(
        self, request: pb.UnpauseInstanceRequest, context: Any
    ) -> pb.UnpauseInstanceResponse:
        """Lets a frozen instance go on."""
        return await self._switched(request, pb.UnpauseInstanceResponse())

    async def SuspendInstance(
        self, request: pb.SuspendInstanceRequest, context: Any
    ) -> pb.SuspendInstanceResponse:
        """Writes an instance's memory to disk."""
        return await self._switched(request, pb.SuspendInstanceResponse())

    async def ResumeInstance(
        self, request: pb.ResumeInstanceRequest, context: Any
    ) -> pb.ResumeInstanceResponse:
        """Lets a suspended instance go on."""
        return await self._switched(request, pb.ResumeInstanceResponse())

    async def _switched(self, request: Wish, response: T) -> T:
        return filled(response, await self._desk.accept(request), self._desk)
