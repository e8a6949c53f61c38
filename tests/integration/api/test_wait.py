"""Waiting for the end of an operation."""

import asyncio

from google.protobuf import duration_pb2
from stead.v1 import operation_pb2

from tests.fakes.conductor_rows import OPERATION
from tests.integration.api.cloud import ApiCloud, heard
from tests.integration.api.test_api_service import created


async def test_a_wait_ends_when_the_operation_does(cloud: ApiCloud) -> None:
    user = cloud.user("waiting", "member")
    answer = await created(cloud, user)
    request = operation_pb2.WaitOperationRequest(
        id=answer.operation.id.upper(), timeout=duration_pb2.Duration(seconds=60)
    )
    async with heard(cloud, OPERATION) as is_heard:
        waiting = asyncio.ensure_future(user.WaitOperation(request))
        await asyncio.wait_for(is_heard.wait(), 60)
    assert not waiting.done()
    await cloud.conductor.end_operation(answer.operation.id, operation_pb2.OPERATION_STATE_DONE)
    ended = await asyncio.wait_for(waiting, 60)
    assert ended.operation.state == operation_pb2.OPERATION_STATE_DONE
    assert ended.operation.version == 2
    again = await user.WaitOperation(request)
    assert again == ended


async def test_a_wait_answers_with_the_present_state_after_its_timeout(cloud: ApiCloud) -> None:
    user = cloud.user("impatient", "member")
    answer = await created(cloud, user)
    request = operation_pb2.WaitOperationRequest(
        id=answer.operation.id, timeout=duration_pb2.Duration(nanos=100_000_000)
    )
    ended = await user.WaitOperation(request)
    assert ended.operation.state == operation_pb2.OPERATION_STATE_RUNNING


async def test_a_wait_ends_although_the_bus_lost_the_message(cloud: ApiCloud) -> None:
    user = cloud.user("lossy", "member")
    answer = await created(cloud, user)
    request = operation_pb2.WaitOperationRequest(id=answer.operation.id)
    async with heard(cloud, OPERATION) as is_heard:
        waiting = asyncio.ensure_future(user.WaitOperation(request))
        await asyncio.wait_for(is_heard.wait(), 60)
    publish, cloud.conductor.publish = cloud.conductor.publish, None
    try:
        await cloud.conductor.end_operation(answer.operation.id, operation_pb2.OPERATION_STATE_DONE)
        ended = await asyncio.wait_for(waiting, 60)
    finally:
        cloud.conductor.publish = publish
    assert ended.operation.state == operation_pb2.OPERATION_STATE_DONE
