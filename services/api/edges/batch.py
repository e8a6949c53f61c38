"""BatchCreateInstances: one message as many wishes, and their results as one message."""

import hashlib
from collections.abc import Sequence

from stead.v1 import instance_pb2 as pb

from services.api.edges import public_messages
from services.api.flows.ports import Accepted
from services.api.logic.caller import Caller
from services.domain.errors import CloudError, Unavailable
from services.runtime.rpc import code_of


def wishes_of(request: pb.BatchCreateInstancesRequest) -> list[pb.CreateInstanceRequest]:
    """Each as if it were asked for alone, with the request id of the batch."""
    return [
        pb.CreateInstanceRequest(
            request_id=request.request_id,
            name=new.name,
            flavor_id=new.flavor_id,
            image_id=new.image_id,
            labels=new.labels,
            ssh_public_keys=new.ssh_public_keys,
            user_data=new.user_data,
            key_pair_ids=new.key_pair_ids,
            validate_only=request.validate_only,
        )
        for new in request.instances
    ]


def fingerprint_of(request: pb.BatchCreateInstancesRequest) -> bytes:
    """SHA-256 over all that is wished; whether it is only asked does not count."""
    wished = pb.BatchCreateInstancesRequest(instances=request.instances)
    return hashlib.sha256(wished.SerializeToString(deterministic=True)).digest()


def error_of_batch(results: Sequence[Accepted | CloudError]) -> CloudError | None:
    """What the whole call is refused with: a request id of another batch, or nobody there to ask,
    which a client tries again as it does with any other call.
    """
    for result in results:
        if isinstance(result, CloudError) and result.reason == "REQUEST_ID_REUSED":
            return result
    failures = [result for result in results if isinstance(result, Unavailable)]
    return failures[0] if failures and len(failures) == len(results) else None


def fill_results(
    response: pb.BatchCreateInstancesResponse,
    results: Sequence[Accepted | CloudError],
    caller: Caller,
) -> None:
    """One result per wish, in order."""
    for result in results:
        told = response.results.add()
        if isinstance(result, CloudError):
            told.error.code = code_of(result)
            told.error.reason = result.reason
            told.error.message = result.message
            told.error.metadata.update(result.metadata)
            continue
        public_messages.fill_instance(told.created.instance, result.resource, caller)
        if result.operation is not None:
            public_messages.fill_operation(told.created.operation, result.operation)
