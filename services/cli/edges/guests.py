"""All instances of the cloud through its public door, with a cloud admin's token."""

from collections.abc import Mapping, Sequence
from typing import Any

from stead.v1 import instance_pb2, instance_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, new_request_id
from services.cli.logic.refusal import Refusal


class CloudInstances:
    """Every project's instances."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._stub = instance_pb2_grpc.InstanceServiceStub(api.channel)

    def instances_all(self) -> Sequence[Mapping[str, Any]]:
        """Every living instance of every project in its JSON form."""
        request = instance_pb2.ListInstancesRequest(all_projects=True)
        return named.all_as_json(self._api, self._stub.ListInstances, request, "instances")

    def instance_delete(self, instance_id: str) -> Mapping[str, Any] | None:
        """Asks for its end; the operation's JSON, None if it is gone already."""
        request = instance_pb2.DeleteInstanceRequest(request_id=new_request_id(), id=instance_id)
        try:
            return as_json(self._api.call(self._stub.DeleteInstance, request).operation)
        except Refusal as refusal:
            if refusal.code == "NOT_FOUND":
                return None
            raise

    def operation_wait(self, operation_id: str, timeout_s: float) -> Mapping[str, Any]:
        """The operation's JSON when it has ended, or as it is after the timeout."""
        return self._api.operation_wait(operation_id, timeout_s)
