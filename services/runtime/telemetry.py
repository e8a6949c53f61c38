"""How a call is found in logs and counted: its trace, its one log line, its place in the tallies.

Owns the trace of what is being done now, and x-request-id and traceparent on the wire. stead makes
no spans: a traceparent goes on as it came, as W3C Trace Context has it for who does not take part.
x-request-id comes back in the trailing metadata, of streams in the initial too: a unary answer with
initial metadata of its own costs 80 µs, without it 15. Does not own what the counts look like
outside: `metrics` does.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor, descriptor_pb2, descriptor_pool

from services.domain.trace import UNTRACED, Trace, trace_from
from services.runtime.log import TRACE, logger
from services.runtime.tally import SECONDS, Histogram

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
UNKNOWN = "unknown"
# Its messages are those of v1alpha: the package describes only that one.
_UNDESCRIBED = frozenset({"grpc.reflection.v1.ServerReflection/ServerReflectionInfo"})
_OK = grpc.StatusCode.OK.name
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_CHANGES = descriptor_pb2.MethodOptions.IDEMPOTENT
# A watch ends when its reader goes.
_USUAL = frozenset({_OK, grpc.StatusCode.CANCELLED.name})
_FAULTS = frozenset({grpc.StatusCode.INTERNAL.name, grpc.StatusCode.UNKNOWN.name})


@dataclass(slots=True)
class MethodTally:
    """What became of the calls of one method: how many by code, how long they took, how many last
    now, how many messages streams carried to their callers.

    `is_loud`: the contract says that it changes something, so each call is worth a line.
    """

    name: str
    is_loud: bool
    codes: dict[str, int] = field(default_factory=dict)
    seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    open: int = 0
    messages: int = 0


@dataclass(slots=True)
class _Call:
    """What is known of a call while it lasts; `reason` once it is refused."""

    trace: Trace
    began_s: float
    reason: str = ""


_CALL: ContextVar[_Call | None] = ContextVar("call", default=None)
# Calls of this process by method, for whoever counts them.
_METHODS: dict[str, MethodTally] = {}


def current_trace() -> Trace:
    """The trace of the call, or of the work, that is being done now."""
    return TRACE.get()


@contextlib.contextmanager
def traced(trace: Trace) -> Iterator[None]:
    """Everything inside, log lines too, belongs to `trace`."""
    token = TRACE.set(trace)
    try:
        yield
    finally:
        TRACE.reset(token)


def methods() -> dict[str, MethodTally]:
    """What this process has counted, by the method's full name without the leading slash."""
    return dict(_METHODS)


def echo() -> tuple[tuple[str, str], ...]:
    """The metadata that names the present call to its caller; empty outside of a call."""
    call = _CALL.get()
    return ((REQUEST_ID, call.trace.correlation_id),) if call is not None else ()


def refused(reason: str) -> None:
    """Says for what reason the present call is refused."""
    call = _CALL.get()
    if call is not None:
        call.reason = reason


def _tally_of(method: str) -> MethodTally:
    """The method's own; methods of no contract share one, since whoever calls can make up names."""
    name = method.lstrip("/")
    tally = _METHODS.get(name)
    if tally is None:
        described = _described(name)
        if described is None and name not in _UNDESCRIBED:
            name = UNKNOWN
        is_loud = described is not None and described.GetOptions().idempotency_level == _CHANGES
        tally = _METHODS.setdefault(name, MethodTally(name, is_loud))
    return tally


def _described(name: str) -> descriptor.MethodDescriptor | None:
    service, _, method = name.partition("/")
    try:
        found = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return None
    described: descriptor.MethodDescriptor | None = found.methods_by_name.get(method)
    return described


class Telemetry(grpc.aio.ServerInterceptor):
    """Stands outside of all that a call meets. It needs the method alone; what came with a call it
    asks the call's context.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's behaviour."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return _watched(handler, _tally_of(handler_call_details.method))


def _watched(handler: Any, tally: MethodTally) -> Any:
    behaviour = _behaviour(handler)

    async def unary(request: Any, context: Any) -> Any:
        call = _begin(context, tally)
        code = _OK
        try:
            return await behaviour(request, context)
        except BaseException as error:
            code = _code_of(error, context)
            raise
        finally:
            _end(tally, call, code)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        call = _begin(context, tally)
        code = _OK
        try:
            await context.send_initial_metadata(((REQUEST_ID, call.trace.correlation_id),))
            async with contextlib.aclosing(behaviour(request, context)) as messages:
                async for message in messages:
                    tally.messages += 1
                    yield message
        except BaseException as error:
            code = _code_of(error, context)
            raise
        finally:
            _end(tally, call, code)

    return _made_like(handler, stream if handler.response_streaming else unary)


def _behaviour(handler: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return found


def _made_like(handler: Any, behaviour: Callable[..., Any]) -> Any:
    arity = (handler.request_streaming, handler.response_streaming)
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[arity]
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


def _begin(context: Any, tally: MethodTally) -> _Call:
    correlation_id = traceparent = ""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID:
            correlation_id = value
        elif key == TRACEPARENT:
            traceparent = value
    trace = trace_from(correlation_id, traceparent) if correlation_id or traceparent else UNTRACED
    if not trace.correlation_id:
        trace = Trace(os.urandom(16).hex(), trace.traceparent)
    call = _Call(trace, time.monotonic())
    TRACE.set(trace)
    _CALL.set(call)
    tally.open += 1
    context.set_trailing_metadata(((REQUEST_ID, trace.correlation_id),))
    return call


def _code_of(error: BaseException, context: Any) -> str:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return grpc.StatusCode.CANCELLED.name
    code = context.code()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    return _NAMES.get(number, "UNKNOWN") if number else "UNKNOWN"


def _end(tally: MethodTally, call: _Call, code: str) -> None:
    took_s = time.monotonic() - call.began_s
    tally.open -= 1
    tally.codes[code] = tally.codes.get(code, 0) + 1
    tally.seconds.observe(took_s)
    log = logger()
    if code in _FAULTS:
        say = log.error
    elif tally.is_loud or code not in _USUAL:
        say = log.info
    elif log.is_enabled_for(logging.DEBUG):
        say = log.debug
    else:
        return
    # The trace is named: at the end of a stream another context may be the present one.
    say(
        "call ended",
        method=tally.name,
        code=code,
        reason=call.reason,
        duration_ms=round(took_s * 1000, 3),
        correlation_id=call.trace.correlation_id,
    )
