"""The network of a simulated cloud: delays, partitions, connections that break, and calls in the
form of gRPC channels, so that the edges of the services are used as they are.

Owns what becomes of a message between two processes. Does not own who calls whom (`wiring`).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import grpc
from grpc_status import rpc_status

from services.domain.errors import Broken, CloudError
from services.runtime import rpc
from tests.simulation.loop import BEING, Being, SimulatedLoop

# One that is cut off finds out after so long.
SILENCE_S = 20.0
END = object()


class Network:
    """How long messages take and who reaches whom."""

    def __init__(self, loop: SimulatedLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.slow = 0.0
        self._cut: set[frozenset[str]] = set()

    def delay_s(self) -> float:
        """How long one message is under way."""
        if self.rng.random() < self.slow:
            return self.rng.uniform(0.05, 1.5)
        return self.rng.uniform(0.0002, 0.004)

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between these two."""
        self._cut.add(frozenset((one, other)))

    def heal(self) -> None:
        """Everything passes."""
        self._cut.clear()

    def passes(self, one: str, other: str) -> bool:
        """Whether these two reach each other."""
        return frozenset((one, other)) not in self._cut

    def at(self, being: Being, delay_s: float, do: Callable[[], None]) -> None:
        """Does it in the name of a process, if that lives then."""
        self.loop.call_later(delay_s, do, context=being.context())


class _End:
    """One end of a call: what came for it, in order, then the end or the error."""

    def __init__(self, being: Being) -> None:
        self.being = being
        self.over = False
        self.due_s = 0.0
        self.cut_since_s = -1.0
        self.coming: deque[tuple[float, Any]] = deque()
        self._came: deque[Any] = deque()
        self._wake = asyncio.Event()

    def take(self, message: Any) -> None:
        self._came.append(message)
        self._wake.set()

    async def next(self) -> Any:
        """The next message, END or an error, which stay the last."""
        while not self._came:
            self._wake.clear()
            await self._wake.wait()
        found = self._came[0]
        if found is not END and not isinstance(found, Exception):
            self._came.popleft()
        return found


class Call:
    """One call under way between two processes, in both directions in order."""

    def __init__(self, network: Network, client: Being, server: Being) -> None:
        self.client, self.server = _End(client), _End(server)
        self.serving: asyncio.Task[None] | None = None
        self._network = network
        self._number = network.loop.next_serial()
        client.on_death[self._number] = lambda: self._lost(self.client)
        server.on_death[self._number] = lambda: self._lost(self.server)

    def send(self, to: _End, message: Any) -> None:
        """Puts a message on the way, behind those before it; while the two are cut off it waits."""
        network = self._network
        now_s = network.loop.time()
        to.due_s = max(to.due_s, now_s + network.delay_s())
        to.coming.append((to.due_s, message))
        network.at(to.being, to.due_s - now_s, lambda: self._pump(to))

    def break_off(self) -> None:
        """Both ends lose the other, each when it finds out."""
        self._lost(self.client)
        self._lost(self.server)

    def end(self, end: _End) -> None:
        """Nothing more is said there; the other end may not know yet."""
        end.over = True
        end.being.on_death.pop(self._number, None)

    def _pump(self, to: _End) -> None:
        network = self._network
        while to.coming and to.coming[0][0] <= network.loop.time():
            if to.over:
                return
            if not network.passes(self.client.being.name, self.server.being.name):
                self._wait(to)
                return
            to.cut_since_s = -1.0
            self._take(to, to.coming.popleft()[1])

    def _wait(self, to: _End) -> None:
        """Cut off: again in a moment, and not for ever."""
        network = self._network
        now_s = network.loop.time()
        if to.cut_since_s < 0.0:
            to.cut_since_s = now_s
        if now_s - to.cut_since_s >= SILENCE_S:
            self.break_off()
        else:
            network.at(to.being, network.rng.uniform(0.2, 1.0), lambda: self._pump(to))

    def _take(self, to: _End, message: Any) -> None:
        to.take(message)
        if to is self.client and (message is END or isinstance(message, Exception)):
            self.end(self.client)
            self.end(self.server)

    def _lost(self, by: _End) -> None:
        """One end is gone: the other finds out soon, or after a silence."""
        other = self.server if by is self.client else self.client
        if other.over:
            return
        network = self._network
        near = network.passes(self.client.being.name, self.server.being.name)
        delay_s = network.delay_s() if near else network.rng.uniform(1.0, SILENCE_S)
        network.at(other.being, delay_s, lambda: self._notice(other))

    def _notice(self, end: _End) -> None:
        if end.over:
            return
        if end is self.client:
            end.take(unreachable())
        elif self.serving is not None:
            self.serving.cancel()
        self.end(end)


def unreachable() -> grpc.aio.AioRpcError:
    """What a call says whose peer is not there."""
    return _failed(grpc.StatusCode.UNAVAILABLE, "the peer is gone")


def _failed(code: grpc.StatusCode, details: str, trailing: Any = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details
    )


def _refusal(error: CloudError) -> grpc.aio.AioRpcError:
    wire = rpc_status.to_status(rpc.status_of(error))
    return _failed(wire.code, wire.details, wire.trailing_metadata)


class Server:
    """What `add_…Servicer_to_server` adds to: finds the handler of a method."""

    def __init__(self) -> None:
        self._handlers: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._handlers += handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The same once more, for servers that look methods up by themselves."""

    @property
    def serves(self) -> bool:
        """Whether anything was added."""
        return bool(self._handlers)

    def handler(self, method: str) -> Any:
        """The handler of a full method name."""
        for generic in self._handlers:
            found = generic.service(SimpleNamespace(method=method, invocation_metadata=()))
            if found is not None:
                return found
        raise KeyError(method)


class _Context:
    """What a servicer has of its call."""

    def set_code(self, code: Any) -> None:
        """The exception that follows says it."""

    def set_details(self, details: str) -> None:
        """As above."""

    async def abort(self, code: Any, details: str = "", trailing: Any = ()) -> None:
        raise _failed(code, details, trailing)


Reach = Callable[[], tuple[Being, Server] | None]


class Channel:
    """A channel from the present process to whatever `reach` finds at each call."""

    def __init__(self, network: Network, client: Being, reach: Reach) -> None:
        self._network = network
        self._client = client
        self._reach = reach

    def unary_unary(self, method: str, *codecs: Any, **named: Any) -> Callable[..., Any]:
        encode, decode = _codecs(codecs, named)

        async def call(request: Any, timeout: float | None = None, **_: Any) -> Any:
            stream = self._begin(method, encode, decode)
            try:
                async with asyncio.timeout(timeout):
                    await stream.write(request)
                    await stream.done_writing()
                    return await stream.read()
            except TimeoutError:
                raise _failed(grpc.StatusCode.DEADLINE_EXCEEDED, "too late") from None
            finally:
                stream.cancel()

        return call

    def unary_stream(self, method: str, *codecs: Any, **named: Any) -> Callable[..., Any]:
        encode, decode = _codecs(codecs, named)

        def call(request: Any, timeout: float | None = None, **_: Any) -> Any:
            stream = self._begin(method, encode, decode)
            stream.send(request)
            return stream

        return call

    def stream_stream(self, method: str, *codecs: Any, **named: Any) -> Callable[..., Any]:
        encode, decode = _codecs(codecs, named)

        def call(*_: Any, **__: Any) -> Any:
            return self._begin(method, encode, decode)

        return call

    stream_unary = unary_unary

    def _begin(self, method: str, encode: Any, decode: Any) -> _Stream:
        found = self._reach()
        if found is None:
            return _Stream(None, encode, decode, self._network)
        being, server = found
        call = Call(self._network, self._client, being)
        handler = server.handler(method)
        network = self._network
        network.at(being, network.delay_s(), lambda: _serve(call, handler))
        return _Stream(call, encode, decode, network)


def _codecs(codecs: Any, named: Any) -> tuple[Any, Any]:
    encode = named.get("request_serializer") or codecs[0]
    return encode, named.get("response_deserializer") or codecs[1]


class _Stream:
    """A call as its caller holds it."""

    def __init__(self, call: Call | None, encode: Any, decode: Any, network: Network) -> None:
        self._call = call
        self._encode = encode
        self._decode = decode
        self._network = network
        self._cancelled = False

    def send(self, message: Any) -> None:
        if self._call is not None:
            self._call.send(self._call.server, self._encode(message))

    async def write(self, message: Any) -> None:
        if self._call is None or self._cancelled:
            await asyncio.sleep(self._network.delay_s())
            raise unreachable()
        if self._call.client.over:
            raise asyncio.InvalidStateError("the call is over")
        self.send(message)

    async def done_writing(self) -> None:
        if self._call is not None:
            self._call.send(self._call.server, END)

    async def read(self) -> Any:
        if self._call is None:
            await asyncio.sleep(self._network.delay_s())
            raise unreachable()
        found = await self._call.client.next()
        if isinstance(found, Exception):
            raise found
        return grpc.aio.EOF if found is END else self._decode(found)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    def cancel(self) -> None:
        """Ends it from this side: whoever reads hears so at once, the server a moment later."""
        being = BEING.get()
        if self._cancelled or (being is not None and not being.alive):
            return
        self._cancelled = True
        call = self._call
        if call is None or call.client.over:
            return
        call.client.take(_failed(grpc.StatusCode.CANCELLED, "cancelled here"))
        call.end(call.client)
        call._lost(call.client)  # the two make one thing


def _serve(call: Call, handler: Any) -> None:
    """Runs in the server's name."""
    network = call._network  # as above
    if call.server.over:
        return
    if not network.passes(call.client.being.name, call.server.being.name):
        call.break_off()
        return
    call.serving = call.server.being.spawn(_handle(call, handler))


async def _handle(call: Call, handler: Any) -> None:
    try:
        async for answer in _answers(call, handler):
            call.send(call.client, handler.response_serializer(answer))
        call.send(call.client, END)
    except asyncio.CancelledError:
        raise
    except CloudError as error:
        call.send(call.client, _refusal(error))
    except grpc.aio.AioRpcError as error:
        call.send(call.client, error)
    except NotImplementedError:
        call.send(call.client, _failed(grpc.StatusCode.UNIMPLEMENTED, "not here"))
    except Exception as error:  # noqa: BLE001  # as the interceptor of the real server does
        loop: Any = asyncio.get_running_loop()
        loop.errors.append(f"a call failed: {error!r}")
        call.send(call.client, _refusal(Broken("BUG", repr(error))))


async def _answers(call: Call, handler: Any) -> AsyncIterator[Any]:
    context = _Context()
    behaviour = (
        handler.stream_stream or handler.unary_stream or handler.stream_unary or handler.unary_unary
    )
    requests = _requests(call, handler)
    said: Any = requests if handler.request_streaming else await anext(requests, None)
    if not handler.response_streaming:
        yield await behaviour(said, context)
        return
    async with aclosing(behaviour(said, context)) as answers:
        async for answer in answers:
            yield answer


async def _requests(call: Call, handler: Any) -> AsyncIterator[Any]:
    while (message := await call.server.next()) is not END:
        yield handler.request_deserializer(message)
