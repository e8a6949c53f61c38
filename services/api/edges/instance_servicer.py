"""stead.v1.InstanceService: converts, calls a flow, converts back."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from stead.v1 import instance_pb2 as pb
from stead.v1 import instance_pb2_grpc

from services.api.edges import public_messages
from services.api.edges.authentication import caller
from services.api.flows.follow_changes import Hub
from services.api.flows.follow_feed import Feed
from services.api.flows.get_row import get_row
from services.api.flows.list_rows import ListAsk, list_rows
from services.api.flows.ports import Conductor
from services.api.flows.read_console import ConsoleAsk, ConsoleRoad, read_console
from services.api.flows.watch_instances import (
    Changed,
    Existing,
    SnapshotDone,
    WatchEvent,
    watch_instances,
)
from services.api.logic.caller import Caller
from services.domain.errors import Unauthenticated
from services.domain.kinds import ResourceKind


class InstanceServicer(instance_pb2_grpc.InstanceServiceServicer):
    """The front desk for instances."""

    def __init__(
        self, conductor: Conductor, *, page_key: bytes, hub: Hub, feed: Feed, road: ConsoleRoad
    ) -> None:
        self._conductor = conductor
        self._page_key = page_key
        self._hub = hub
        self._feed = feed
        self._road = road

    async def CreateInstance(
        self, request: pb.CreateInstanceRequest, context: Any
    ) -> pb.CreateInstanceResponse:
        """Accepts a new instance."""
        accepted = await self._conductor.wish_accept(caller(), request)
        return pb.CreateInstanceResponse(
            instance=public_messages.instance(accepted.resource, caller()),
            operation=public_messages.operation(accepted.operation),
        )

    async def GetInstance(
        self, request: pb.GetInstanceRequest, context: Any
    ) -> pb.GetInstanceResponse:
        """Shows one instance."""
        row = await get_row(self._conductor, caller(), ResourceKind.INSTANCE, request.id)
        return pb.GetInstanceResponse(instance=public_messages.instance(row, caller()))

    async def ListInstances(
        self, request: pb.ListInstancesRequest, context: Any
    ) -> pb.ListInstancesResponse:
        """Lists living instances."""
        ask = ListAsk(
            ResourceKind.INSTANCE,
            request.page_size,
            request.page_token,
            request.filter,
            request.all_projects,
        )
        rows, token = await list_rows(self._conductor, caller(), ask, page_key=self._page_key)
        return pb.ListInstancesResponse(
            instances=[public_messages.instance(row, caller()) for row in rows],
            next_page_token=token,
        )

    async def DeleteInstance(
        self, request: pb.DeleteInstanceRequest, context: Any
    ) -> pb.DeleteInstanceResponse:
        """Deletes an instance."""
        accepted = await self._conductor.wish_accept(caller(), request)
        return pb.DeleteInstanceResponse(
            instance=public_messages.instance(accepted.resource, caller()),
            operation=public_messages.operation(accepted.operation),
        )

    async def WatchInstances(
        self, request: pb.WatchInstancesRequest, context: Any
    ) -> AsyncIterator[pb.WatchInstancesResponse]:
        """Streams a snapshot, then changes."""
        watcher = caller()
        events = watch_instances(
            self._conductor, self._hub, self._feed, watcher, all_projects=request.all_projects
        )
        while True:
            try:
                async with asyncio.timeout(watcher.expires_at_s - time.time()):
                    event = await anext(events)
            except TimeoutError:
                raise Unauthenticated(
                    "TOKEN_EXPIRED", "the token of this watch has expired; ask for a new one"
                ) from None
            yield _watched(event, watcher)

    async def GetConsoleOutput(
        self, request: pb.GetConsoleOutputRequest, context: Any
    ) -> pb.GetConsoleOutputResponse:
        """Reads the end of the console."""
        console = await read_console(
            self._conductor,
            self._road,
            caller(),
            ConsoleAsk(request.id, request.max_bytes),
            host_of=public_messages.host_of,
        )
        return pb.GetConsoleOutputResponse(
            output=console.content.decode("utf-8", "replace"),
            start_offset=console.start_offset,
            end_offset=console.start_offset + len(console.content),
        )


def _watched(event: WatchEvent, watcher: Caller) -> pb.WatchInstancesResponse:
    match event:
        case Existing():
            return pb.WatchInstancesResponse(
                existing=public_messages.instance(event.row, watcher), revision=event.revision
            )
        case SnapshotDone():
            return pb.WatchInstancesResponse(
                snapshot_done=pb.SnapshotDone(count=event.count), revision=event.revision
            )
        case Changed():
            return pb.WatchInstancesResponse(
                change=pb.InstanceChange(instance=public_messages.instance(event.row, watcher)),
                revision=event.row.revision,
            )
