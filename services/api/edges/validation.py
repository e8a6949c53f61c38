"""The rules that stand in the contract, checked on every public request and on each streamed message.

Owns how violations are told: all of them at once, as BadRequest beside ErrorInfo (INVALID_FIELD), within 4 KiB.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import protovalidate
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.domain.errors import Invalid
from services.runtime.rpc import status_of, wrap_handler

SERVICES = "/stead.v1."
VIOLATIONS_MAX = 12
TEXT_MAX = 120


class InvalidFields(Exception):
    """A request breaks rules of the contract: pairs of field and what is wrong with it."""

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        super().__init__(f"{len(violations)} violations")
        self.violations = list(violations)


class Validation(grpc.aio.ServerInterceptor):
    """Ends a call with INVALID_ARGUMENT before its method sees a request that breaks the rules."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's behaviour."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(SERVICES):
            return handler
        decode = handler.request_deserializer

        def checked(request: bytes) -> Any:
            return self._checked(decode, request)

        async def all_checked(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
            async for request in requests:
                yield checked(request)

        check = all_checked if handler.request_streaming else checked

        async def unary(call: Callable[..., Awaitable[Any]], request: Any, context: Any) -> Any:
            try:
                return await call(check(request), context)
            except InvalidFields as invalid:
                await _abort(context, invalid)

        async def stream(
            call: Callable[..., AsyncIterator[Any]], request: Any, context: Any
        ) -> AsyncIterator[Any]:
            try:
                async for message in call(check(request), context):
                    yield message
            except InvalidFields as invalid:
                await _abort(context, invalid)

        return wrap_handler(_Undecoded(handler), unary, stream)

    def _checked(self, decode: Callable[[bytes], Any], request: bytes) -> Any:
        try:
            message = decode(request)
        except DecodeError as error:
            raise Invalid(
                "REQUEST_UNREADABLE", "the request is not what this method takes"
            ) from error
        found = self._validator.collect_violations(message)
        if found:
            raise InvalidFields([(_path(v.proto), v.proto.message) for v in found])
        return message


class _Undecoded:
    """A handler whose requests stay bytes until they are let in: strangers' bytes are not parsed."""

    request_deserializer = None

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)


def _path(violation: Any) -> str:
    path = ""
    for element in violation.field.elements if violation.field else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None:
            subscript = element.subscript.value
            path += f"[{json.dumps(subscript) if isinstance(subscript, str) else subscript}]"
    return path[:TEXT_MAX]


async def _abort(context: Any, invalid: InvalidFields) -> None:
    told = [(path, why[:TEXT_MAX]) for path, why in invalid.violations[:VIOLATIONS_MAX]]
    fields = list(dict.fromkeys(path for path, _ in told))
    status = status_of(
        Invalid(
            "INVALID_FIELD",
            f"{told[0][0]} {told[0][1]}" + (f" (and {len(fields) - 1} more)" if fields[1:] else ""),
            metadata={"field": told[0][0]},
        )
    )
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=path, description=why)
            for path, why in told
        ]
    )
    packed = any_pb2.Any()
    packed.Pack(bad)
    status.details.append(packed)
    await context.abort_with_status(rpc_status.to_status(status))
