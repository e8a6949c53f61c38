"""stead.v1.KeyPairService: converts, calls a flow, converts back."""

from typing import Any

from stead.v1 import key_pair_pb2 as pb
from stead.v1 import key_pair_pb2_grpc, operation_pb2

from services.api.edges.desk import Desk
from services.api.edges.public_messages import fill_key_pair, fill_operation
from services.api.flows.list_rows import ListAsk
from services.api.flows.ports import Accepted
from services.domain.kinds import ResourceKind


class KeyPairServicer(key_pair_pb2_grpc.KeyPairServiceServicer):
    """The front desk for key pairs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateKeyPair(
        self, request: pb.CreateKeyPairRequest, context: Any
    ) -> pb.CreateKeyPairResponse:
        """Takes in a public key."""
        response = pb.CreateKeyPairResponse()
        _fill(response.key_pair, response.operation, await self._desk.accept(request))
        return response

    async def GetKeyPair(
        self, request: pb.GetKeyPairRequest, context: Any
    ) -> pb.GetKeyPairResponse:
        """Shows one key pair."""
        response = pb.GetKeyPairResponse()
        fill_key_pair(response.key_pair, await self._desk.row(ResourceKind.KEY_PAIR, request.id))
        return response

    async def ListKeyPairs(
        self, request: pb.ListKeyPairsRequest, context: Any
    ) -> pb.ListKeyPairsResponse:
        """Lists the key pairs of the project."""
        page = await self._desk.page(
            ListAsk(
                ResourceKind.KEY_PAIR,
                request.page_size,
                request.page_token,
                request.filter,
                request.order_by,
            )
        )
        response = pb.ListKeyPairsResponse(
            next_page_token=page.next_page_token, revision=page.revision
        )
        for row in page.rows:
            fill_key_pair(response.key_pairs.add(), row)
        return response

    async def DeleteKeyPair(
        self, request: pb.DeleteKeyPairRequest, context: Any
    ) -> pb.DeleteKeyPairResponse:
        """Forgets a key pair."""
        response = pb.DeleteKeyPairResponse()
        _fill(response.key_pair, response.operation, await self._desk.accept(request))
        return response


def _fill(key_pair: pb.KeyPair, operation: operation_pb2.Operation, accepted: Accepted) -> None:
    fill_key_pair(key_pair, accepted.resource)
    if accepted.operation is not None:
        fill_operation(operation, accepted.operation)
