"""A server whose methods are wrapped in their interceptors once, when they are added, and not anew
for each call.

Owns the wrapping. An interceptor that stands here decides by the method alone; what it must know
of a call (metadata, time left) it asks the call's context. Measured in docs/performance.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import grpc


class _Details(NamedTuple):
    """What an interceptor is told of a method before there is a call."""

    method: str
    invocation_metadata: tuple[tuple[str, str], ...] = ()


class LayeredServer(grpc.aio.Server):
    """A server of gRPC with `layers` around each method, the first one outermost."""

    def __init__(self, server: grpc.aio.Server, layers: Sequence[grpc.aio.ServerInterceptor]):
        self._server = server
        self._layers = tuple(layers)

    def add_registered_method_handlers(  # type: ignore[override,unused-ignore]  # stubs lag behind
        self, service_name: str, method_handlers: Mapping[str, Any]
    ) -> None:
        """Adds the methods of one service."""
        wrapped = {
            name: _wrapped(self._layers, f"/{service_name}/{name}", handler)
            for name, handler in method_handlers.items()
        }
        self._server.add_registered_method_handlers(service_name, wrapped)  # type: ignore[attr-defined,unused-ignore]  # stubs lag behind

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]
    ) -> None:
        """Adds handlers that are asked about each call of a method that is not registered."""
        self._server.add_generic_rpc_handlers(
            [_Generic(handler, self._layers) for handler in generic_rpc_handlers]
        )

    def add_insecure_port(self, address: str) -> int:
        """Listens there."""
        return self._server.add_insecure_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """Listens there, with TLS."""
        return self._server.add_secure_port(address, server_credentials)

    async def start(self) -> None:
        """Serves from now on."""
        await self._server.start()

    async def stop(self, grace: float | None) -> None:
        """Takes no more calls; those that are still there after `grace` seconds are ended."""
        await self._server.stop(grace)

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Waits for the end of the server."""
        return await self._server.wait_for_termination(timeout)


class _Generic(grpc.GenericRpcHandler):
    def __init__(self, inner: Any, layers: Sequence[grpc.aio.ServerInterceptor]) -> None:
        self._inner = inner
        self._layers = layers

    def service(self, handler_call_details: Any) -> Any:
        """The handler of one call, wrapped; None where there is none."""
        handler = self._inner.service(handler_call_details)
        if handler is None:
            return None
        return _wrapped(self._layers, handler_call_details.method, handler)


def _wrapped(layers: Sequence[grpc.aio.ServerInterceptor], method: str, handler: Any) -> Any:
    for layer in reversed(layers):
        handler = _now(layer, method, handler)
    return handler


def _now(layer: grpc.aio.ServerInterceptor, method: str, handler: Any) -> Any:
    """What the interceptor makes of the handler; it has nothing to wait for."""

    async def continuation(_: Any) -> Any:
        return handler

    making = layer.intercept_service(continuation, _Details(method))  # type: ignore[arg-type]  # it reads these two
    try:
        making.send(None)
    except StopIteration as made:
        return made.value
    making.close()
    raise TypeError(f"{type(layer).__name__} waits before it knows a call")
