"""One call of the conductor outside of the conversation: how long it may take, and how it fails."""

from collections.abc import Awaitable
from typing import TypeVar

import grpc

from services.runtime import rpc

CALL_S = 5.0

Answer = TypeVar("Answer")


async def called(call: Awaitable[Answer]) -> Answer:
    """Its answer. Raises what the conductor refuses, Unavailable."""
    try:
        return await call
    except grpc.aio.AioRpcError as failed:
        raise rpc.error_of(failed) from failed
