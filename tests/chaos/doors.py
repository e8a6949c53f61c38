"""How a client of the test reaches the cloud: through roads that get cut, with short deadlines,
another door after each failure.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
)
# Whatever the answer, the asker cannot know by these whether it was done.
UNKNOWN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    }
)


class Door:
    """One client's connection, to one api after the other."""

    def __init__(self, endpoints: Sequence[str], token: str, first: int = 0) -> None:
        turn = first % len(endpoints)
        self._endpoints = itertools.cycle([*endpoints[turn:], *endpoints[:turn]])
        self.metadata = (("authorization", f"Bearer {token}"),)
        self._channel = grpc.aio.insecure_channel(next(self._endpoints), options=OPTIONS)

    @property
    def channel(self) -> grpc.aio.Channel:
        """To the api whose turn it is."""
        return self._channel

    async def turn(self) -> None:
        """Leaves this connection for a new one to the next api."""
        await self._channel.close(None)
        self._channel = grpc.aio.insecure_channel(next(self._endpoints), options=OPTIONS)

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close(None)


def reason_of(error: Any) -> str:
    """stead's reason for a refusal, empty where it came from the road."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        return ""
    for detail in status.details if status else ():
        told = error_details_pb2.ErrorInfo()
        if detail.Unpack(told) and told.domain == "stead":
            return str(told.reason)
    return ""
