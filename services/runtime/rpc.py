"""gRPC for any service: servers and channels with sane bounds, and errors in their wire form.

Owns how a CloudError becomes google.rpc.Status with ErrorInfo, and back. Does not own which error
is right.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.domain import errors
from services.runtime import telemetry
from services.runtime.layers import LayeredServer
from services.runtime.log import logger

DOMAIN = "stead"
# What a server takes in, and what our own services answer each other: a view is the largest.
REQUEST_BYTES_MAX = 8 * 1024 * 1024
RESPONSE_BYTES_MAX = 256 * 1024 * 1024
PENDING_CALLS_MAX = 20_000
PENDING_S = 300
# A status is under 4 KiB in all, whatever the texts in it: trailers are limited. In bytes.
TEXT_MAX = 512
METADATA_MAX = 1536

CODES: dict[type[errors.CloudError], grpc.StatusCode] = {
    errors.Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.NoCapacity: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.Denied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Broken: grpc.StatusCode.INTERNAL,
}
# CANCELLED is the peer's: our own cancelling raises CancelledError.
_NOT_ANSWERED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
KINDS = {code.value[0]: kind for kind, code in CODES.items()}

_SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", RESPONSE_BYTES_MAX),
    # What waits longer, or beyond that number, to be begun is cancelled by gRPC, which tells no
    # reason and no delay: our own bounds come first.
    ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
    ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS_MAX),
    ("grpc.server_max_unrequested_time_in_server", PENDING_S),
)
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),
    ("grpc.max_send_message_length", REQUEST_BYTES_MAX),
)


def code_of(error: errors.CloudError) -> int:
    """The number of the gRPC status code of this kind of error."""
    kind = next(kind for kind in type(error).__mro__ if kind in CODES)
    number: int = CODES[kind].value[0]
    return number


def error_from(
    code: int, reason: str, message: str, *, field: str = "", metadata: dict[str, str] | None = None
) -> errors.CloudError:
    """The error that another service sent as code and reason."""
    return KINDS.get(code, errors.Broken)(reason, message, field=field, metadata=metadata)


def status_of(error: errors.CloudError) -> status_pb2.Status:
    """google.rpc.Status with ErrorInfo always, BadRequest and RetryInfo where they fit."""
    details: list[Any] = [
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=DOMAIN,
            metadata=_fitting(error.metadata),
        )
    ]
    if error.field:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=error.field, description=_cut(error.message, TEXT_MAX)
                    )
                ]
            )
        )
    retry_after_s = error.retry_after_s
    if retry_after_s is None and isinstance(error, errors.Unavailable):
        retry_after_s = 1.0
    if retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code_of(error), message=_cut(error.message, TEXT_MAX))
    for detail in details:
        add_detail(status, detail)
    return status


def _fitting(metadata: dict[str, str]) -> dict[str, str]:
    """The first pairs that fit together; a value of more than half of the room is cut."""
    left, kept = METADATA_MAX, {}
    for key, value in metadata.items():
        told = _cut(value, METADATA_MAX // 2)
        left -= len(key.encode()) + len(told.encode())
        if left < 0:
            break
        kept[key] = told
    return kept


def _cut(text: str, bytes_max: int) -> str:
    return text.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def add_detail(status: status_pb2.Status, detail: Any) -> None:
    """Puts one more google.rpc detail beside those that are there; each kind at most once."""
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


async def abort(context: Any, error: errors.CloudError) -> NoReturn:
    """Ends a call with the error in its wire form."""
    await abort_with(context, status_of(error))


async def abort_with(context: Any, status: status_pb2.Status) -> NoReturn:
    """Ends a call with a status and its details, and with its request id."""
    wire = rpc_status.to_status(status)
    telemetry.refused(_reason_of(status))
    said = (*wire.trailing_metadata, *telemetry.echo())
    await context.abort(wire.code, wire.details, said)
    raise AssertionError("abort returned")


def _reason_of(status: status_pb2.Status) -> str:
    cause = error_details_pb2.ErrorInfo()
    return next((cause.reason for detail in status.details if detail.Unpack(cause)), "")


def error_of(failed: grpc.aio.AioRpcError) -> errors.CloudError:
    """The CloudError inside a failed call; UNAVAILABLE (PEER_UNREACHABLE) where the peer never
    answered.
    """
    status = rpc_status.from_call(failed)  # type: ignore[arg-type]  # aio errors have what it reads
    number: int = failed.code().value[0]
    cause, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    details = status.details if status is not None else ()
    retried = any(detail.Unpack(retry) for detail in details)
    if status is not None and any(detail.Unpack(cause) for detail in details):
        error = error_from(number, cause.reason, status.message, metadata=dict(cause.metadata))
        error.retry_after_s = retry.retry_delay.ToMilliseconds() / 1000 if retried else None
        return error
    if failed.code() in _NOT_ANSWERED:
        return errors.Unavailable("PEER_UNREACHABLE", "a part of the cloud did not answer in time")
    return errors.Broken("PEER_FAILED", f"{failed.code().name}: {failed.details()}")


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns a CloudError of any handler into its wire form, and anything else into INTERNAL / BUG
    with a log line.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler's behaviour, whatever its arity."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return wrap_handler(handler, _guard_unary, _guard_stream)


async def _guard_unary(
    call: Callable[[Any, Any], Awaitable[Any]], request: Any, context: Any
) -> Any:
    try:
        return await call(request, context)
    except errors.CloudError as error:
        await abort(context, error)
    except (asyncio.CancelledError, grpc.aio.AbortError):
        raise
    except Exception:  # noqa: BLE001  # a bug is told as a bug, never as silence
        logger().exception("call failed")
        await abort(
            context, errors.Broken("BUG", "stead failed in a way it should not; see its log")
        )


async def _guard_stream(
    call: Callable[[Any, Any], AsyncGenerator[Any, None]], request: Any, context: Any
) -> AsyncGenerator[Any, None]:
    try:
        async with aclosing(call(request, context)) as messages:
            async for message in messages:
                yield message
    except errors.CloudError as error:
        await abort(context, error)
    except (asyncio.CancelledError, grpc.aio.AbortError, GeneratorExit):
        raise
    except Exception:  # noqa: BLE001  # as above
        logger().exception("stream failed")
        await abort(
            context, errors.Broken("BUG", "stead failed in a way it should not; see its log")
        )


def wrap_handler(handler: Any, unary: Callable[..., Any], stream: Callable[..., Any]) -> Any:
    """The handler with `unary(call, request, context)` or `stream(…)` around its behaviour, by what
    it answers. A stream whose caller has gone is closed at once, all layers of it: none is left to
    the garbage collector with what it holds.
    """
    if handler.response_streaming:
        streaming = handler.stream_stream or handler.unary_stream

        async def on_stream(request: Any, context: Any) -> Any:
            async with aclosing(stream(streaming, request, context)) as messages:
                async for message in messages:
                    yield message

        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make(on_stream, handler.request_deserializer, handler.response_serializer)
    answering = handler.stream_unary or handler.unary_unary

    async def on_unary(request: Any, context: Any) -> Any:
        return await unary(answering, request, context)

    make = (
        grpc.stream_unary_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make(on_unary, handler.request_deserializer, handler.response_serializer)


def server(
    *interceptors: grpc.aio.ServerInterceptor, options: Sequence[tuple[str, int]] = ()
) -> grpc.aio.Server:
    """A server with bounds set, calls traced and counted, and errors in their wire form;
    `interceptors` run inside of those.
    """
    plain = grpc.aio.server(options=(*_SERVER_OPTIONS, *options))
    return LayeredServer(plain, (telemetry.Telemetry(), ErrorInterceptor(), *interceptors))


def channel(target: str, options: Sequence[tuple[str, int]] = ()) -> grpc.aio.Channel:
    """A channel for the life of the process to a peer of our own, found again quickly after it
    restarts.
    """
    return grpc.aio.insecure_channel(
        target,
        options=(
            *_CHANNEL_OPTIONS,
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            *options,
        ),
    )
