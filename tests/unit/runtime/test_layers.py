"""Interceptors that are put around a method once: every method gets them, in their order, whatever
its arity, and a call is not wrapped again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.runtime.layers import LayeredServer
from services.runtime.rpc import wrap_handler


class Layer(grpc.aio.ServerInterceptor):
    """Notes what it wraps and whom it lets through."""

    def __init__(self, name: str, noted: list[str]) -> None:
        self.name, self.noted = name, noted

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's behaviour."""
        handler = await continuation(handler_call_details)
        self.noted.append(f"{self.name} wraps {handler_call_details.method}")

        async def unary(call: Any, request: Any, context: Any) -> Any:
            self.noted.append(self.name)
            return await call(request, context)

        async def stream(call: Any, request: Any, context: Any) -> AsyncIterator[Any]:
            self.noted.append(self.name)
            async for message in call(request, context):
                yield message

        return wrap_handler(handler, unary, stream)


class Waiting(grpc.aio.ServerInterceptor):
    """Wants to know a call before it wraps."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Waits."""
        await asyncio.sleep(1)


async def one(request: bytes, context: Any) -> bytes:
    return request


async def many(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield request
    yield request


HANDLERS: dict[str, Any] = {
    "One": grpc.unary_unary_rpc_method_handler(one),
    "Many": grpc.unary_stream_rpc_method_handler(many),
}


class Unknown(grpc.GenericRpcHandler):
    """Answers what is not registered, unless it is called Nothing."""

    def service(self, handler_call_details: Any) -> Any:
        """A handler for one call."""
        if handler_call_details.method.endswith("Nothing"):
            return None
        return grpc.unary_unary_rpc_method_handler(one)


async def test_layers_stand_around_each_method_once_and_in_order(tmp_path: Path) -> None:
    noted: list[str] = []
    server = LayeredServer(grpc.aio.server(), (Layer("outer", noted), Layer("inner", noted)))
    server.add_registered_method_handlers("s.S", HANDLERS)
    server.add_generic_rpc_handlers((Unknown(),))
    assert noted == [
        "inner wraps /s.S/One",
        "outer wraps /s.S/One",
        "inner wraps /s.S/Many",
        "outer wraps /s.S/Many",
    ]
    target = f"unix:{tmp_path}/s.sock"
    server.add_insecure_port(target)
    await server.start()
    async with grpc.aio.insecure_channel(target) as connected:
        channel: Any = connected
        noted.clear()
        for _ in range(2):
            assert await channel.unary_unary("/s.S/One")(b"a") == b"a"
        assert noted == ["outer", "inner"] * 2
        noted.clear()
        assert [m async for m in channel.unary_stream("/s.S/Many")(b"b")] == [b"b", b"b"]
        assert noted == ["outer", "inner"]
        noted.clear()
        assert await channel.unary_unary("/s.S/Other")(b"c") == b"c"
        assert noted[2:] == ["outer", "inner"]
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await channel.unary_unary("/s.S/Nothing")(b"d")
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.stop(0)


async def test_an_interceptor_that_waits_for_a_call_is_refused() -> None:
    server = LayeredServer(grpc.aio.server(), (Waiting(),))
    with pytest.raises(TypeError, match="Waiting waits"):
        server.add_registered_method_handlers("s.S", HANDLERS)


def test_a_stream_that_is_left_in_the_middle_is_closed_through_all_layers_at_once() -> None:
    """As gRPC leaves it whose caller has gone while a message was written."""
    ended: list[str] = []

    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield request
        finally:
            ended.append("innermost")

    async def inside(call: Any, request: Any, context: Any) -> AsyncIterator[Any]:
        async with aclosing(call(request, context)) as messages:
            async for message in messages:
                yield message

    async def leave() -> None:
        handler = grpc.unary_stream_rpc_method_handler(endless)
        for _ in range(3):
            handler = wrap_handler(handler, inside, inside)
        messages = handler.unary_stream(b"x", None)
        assert await anext(messages) == b"x"
        await messages.aclose()
        assert ended == ["innermost"]

    asyncio.run(leave())
