"""The replicas of api as one process of hosts knows them: a channel to each, opened when needed.

Owns which of them a host speaks to. Does not own what is said.
"""

import zlib
from collections import OrderedDict
from collections.abc import Sequence

import grpc
from stead.internal.v1 import compute_pb2_grpc

from services.runtime import rpc

STRANGERS_MAX = 16
# A replica whose machine is gone says nothing; who typed by it must not hold a keyboard for ever.
KEEPALIVE = (("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 20_000))


class Replicas:
    """Those that are configured, and the last few others that asked something."""

    def __init__(self, targets: Sequence[str]) -> None:
        self.targets = tuple(targets)
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._strangers: OrderedDict[str, grpc.aio.Channel] = OrderedDict()

    def channel(self, target: str) -> grpc.aio.Channel:
        """The channel to a configured replica."""
        if target not in self._channels:
            self._channels[target] = rpc.channel(target, KEEPALIVE)
        return self._channels[target]

    async def channel_of(self, target: str) -> grpc.aio.Channel:
        """The channel to the replica that asked from `target`; empty where there is but one."""
        if target in self.targets or not target:
            return self.channel(target or self.targets[0])
        if target not in self._strangers:
            self._strangers[target] = rpc.channel(target, KEEPALIVE)
            if len(self._strangers) > STRANGERS_MAX:
                await self._strangers.popitem(last=False)[1].close()
        self._strangers.move_to_end(target)
        return self._strangers[target]

    async def close(self) -> None:
        """Closes every channel."""
        for channel in (*self._channels.values(), *self._strangers.values()):
            await channel.close()


class Door:
    """The replica that one host speaks to: hosts begin at different ones, and turn to the next one
    when theirs is lost.
    """

    def __init__(self, replicas: Replicas, host_id: str) -> None:
        self._replicas = replicas
        self._place = zlib.crc32(host_id.encode())

    @property
    def target(self) -> str:
        """Where it is."""
        targets = self._replicas.targets
        return targets[self._place % len(targets)]

    @property
    def stub(self) -> "compute_pb2_grpc.ComputeIngressServiceAsyncStub":
        """The way in."""
        channel = self._replicas.channel(self.target)
        return compute_pb2_grpc.ComputeIngressServiceStub(channel)

    def turn(self) -> None:
        """Turns to the next one."""
        self._place += 1
