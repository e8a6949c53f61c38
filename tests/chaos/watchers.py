"""Watchers: follow the instances of a project, or of all, through every cut, by resume tokens.
Owns what each one was told. Judges nothing.
"""

from __future__ import annotations

import asyncio

import grpc
from google.protobuf import duration_pb2
from stead.v1 import instance_pb2, instance_pb2_grpc

from tests.chaos.clients import Project
from tests.chaos.doors import UNKNOWN, Door, reason_of
from tests.checkers.history import Mark, Seen, Sign

SILENCE_S = 6.0
RESUMED = frozenset("WATCH_TOO_SLOW API_STOPPING TOKEN_EXPIRED LANE_FULL TOO_MANY_WATCHES".split())


class Watcher:
    """One watch through any number of connections."""

    def __init__(self, name: str, door: Door, *, project: Project | None) -> None:
        self.name = name
        self.seen: list[Seen | Mark] = []
        self.revision = 0
        self.changes = 0
        self.reconnects = 0
        self.failure = ""
        self._door = door
        self._project = project
        self._token = ""

    async def follow(self) -> None:
        """Watches until cancelled, or until it is refused for good."""
        while True:
            try:
                await self._connect()
            except TimeoutError:
                pass
            except grpc.aio.AioRpcError as error:
                reason = reason_of(error)
                if reason == "REVISION_COMPACTED":
                    self._token = ""
                    self._note(Sign.COMPACTED)
                elif error.code() not in UNKNOWN and reason not in RESUMED:
                    self.failure = f"{error.code().name} {reason}: {error.details()}"
                    return
            self.reconnects += 1
            await self._door.turn()
            await asyncio.sleep(0.2)

    async def _connect(self) -> None:
        stub = instance_pb2_grpc.InstanceServiceStub(self._door.channel)
        request = instance_pb2.WatchInstancesRequest(
            all_projects=self._project is None,
            resume_token=self._token,
            bookmark_interval=duration_pb2.Duration(seconds=1),
            events_max=16,
        )
        scope = "" if self._project is None else self._project.id
        self.seen.append(Mark(self.name, Sign.RESUMED if self._token else Sign.BEGUN, scope=scope))
        stream = stub.WatchInstances(request, metadata=self._door.metadata)
        try:
            while True:
                # Bookmarks come every second: a silent stream is a dead one.
                message = await asyncio.wait_for(stream.read(), SILENCE_S)
                if not isinstance(message, instance_pb2.WatchInstancesResponse):
                    return
                for event in (message, *message.more):
                    self._take(event)
                # Tokens stand in the last event of a message alone.
                self._token = (message.more[-1] if message.more else message).resume_token or (
                    self._token
                )
        finally:
            stream.cancel()

    def _take(self, event: instance_pb2.WatchInstancesResponse) -> None:
        kind = event.WhichOneof("event")
        self.revision = max(self.revision, event.revision)
        if kind == "existing":
            self._tell(event.existing, event.revision, snapshot=True)
        elif kind == "change":
            self.changes += 1
            self._tell(event.change.instance, event.revision, snapshot=False)
        elif kind == "snapshot_done":
            self._note(Sign.DONE, event.revision)
        elif kind == "bookmark":
            self._note(Sign.BOOKMARK, event.revision)

    def _tell(self, instance: instance_pb2.Instance, revision: int, *, snapshot: bool) -> None:
        if self._project is not None:
            self._project.learn([instance])
        self.seen.append(
            Seen(
                watcher=self.name, project_id=instance.project_id, kind="instance",
                id=instance.id, version=instance.version, revision=revision,
                state=instance_pb2.InstanceState.Name(instance.state),
                deleted=instance.state == instance_pb2.INSTANCE_STATE_DELETED, snapshot=snapshot,
            )
        )  # fmt: skip

    def _note(self, sign: Sign, revision: int = 0) -> None:
        self.seen.append(Mark(self.name, sign, revision))
