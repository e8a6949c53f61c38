"""What one message of a watch carries: one event, or as many as were asked for."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from stead.v1 import host_pb2, instance_pb2, operation_pb2

from tests.fakes.conductor_rows import HOST
from tests.integration.api.cloud import ApiCloud, User, new_id, refusal
from tests.integration.api.test_api_service import created

PATIENCE_S = 60.0
WATCHES: dict[str, Callable[[User, Any], Any]] = {
    "instances": lambda user, most: user.WatchInstances(
        instance_pb2.WatchInstancesRequest(events_max=most)
    ),
    "operations": lambda user, most: user.WatchOperations(
        operation_pb2.WatchOperationsRequest(events_max=most)
    ),
    "hosts": lambda user, most: user.WatchHosts(host_pb2.WatchHostsRequest(events_max=most)),
}


async def snapshot(stream: Any) -> list[list[Any]]:
    """The events of each message up to the end of the snapshot."""
    found: list[list[Any]] = []
    while not found or found[-1][-1].WhichOneof("event") != "snapshot_done":
        message = await asyncio.wait_for(stream.read(), PATIENCE_S)
        found.append([message, *message.more])
    stream.cancel()
    return found


@pytest.mark.parametrize("noun", WATCHES)
async def test_a_message_has_as_many_events_as_were_asked_for(
    own_cloud: ApiCloud, noun: str
) -> None:
    """Few enough for one page: a message that ends a page may have less."""
    user = own_cloud.admin(f"runs-{noun}")
    first = (await created(own_cloud, user)).instance
    for _ in range(4):
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_id(),
            name=f"i-{new_id()}",
            flavor_id=first.flavor_id,
            image_id=first.image_id,
        )
        await user.CreateInstance(request)
        await own_cloud.conductor.commit(HOST, host_pb2.Host(id=f"runs-{new_id()}"))
    assert {len(events) for events in await snapshot(WATCHES[noun](user, 1))} == {1}
    alone = await snapshot(WATCHES[noun](user, 0))
    assert {len(events) for events in alone} == {1}
    together = await snapshot(WATCHES[noun](user, 3))
    assert [len(events) for events in together[:-2]] == [3] * (len(together) - 2)
    shown = [event for events in together for event in events]
    assert [event.existing.id for event in shown] == [events[0].existing.id for events in alone]
    assert not any(event.resume_token for event in shown[:-1])
    assert shown[-1].resume_token
    for beyond in (-1, 257):
        refused = await refusal(WATCHES[noun](user, beyond))
        assert (refused.reason, refused.fields) == ("INVALID_FIELD", ["events_max"])


async def test_changes_that_were_missed_come_together(cloud: ApiCloud) -> None:
    user = cloud.user("missed", "member")
    first = (await created(cloud, user)).instance
    ((_,), (done,)) = await snapshot(WATCHES["instances"](user, 256))
    for number in range(20):
        await cloud.conductor.change_instance(first.id, fault=str(number))
    stream = user.WatchInstances(
        instance_pb2.WatchInstancesRequest(events_max=256, resume_token=done.resume_token)
    )
    seen: list[Any] = []
    messages = 0
    while len(seen) < 20:
        message = await asyncio.wait_for(stream.read(), PATIENCE_S)
        seen += [message, *message.more]
        messages += 1
    stream.cancel()
    assert messages < 20
    assert [event.change.instance.fault for event in seen] == [str(n) for n in range(20)]
    assert [event.revision for event in seen] == [e.change.instance.revision for e in seen]
    assert seen[-1].resume_token
