"""The rules that stand in the contract, checked on every public request and on each streamed
message.

Owns finding violations. Does not own how they are told: `edges.refusals`.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import protovalidate
from google.protobuf.message import DecodeError

from services.domain.errors import Invalid
from services.runtime.rpc import wrap_handler

SERVICES = "/stead.v1."
PATH_MAX = 120


class InvalidFields(Exception):
    """A request breaks rules of the contract: pairs of field and what is wrong with it."""

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        super().__init__(f"{len(violations)} violations")
        self.violations = list(violations)


class Validation(grpc.aio.ServerInterceptor):
    """Raises InvalidFields before a method sees a request that breaks the rules."""

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
            return await call(check(request), context)

        async def stream(
            call: Callable[..., AsyncGenerator[Any, None]], request: Any, context: Any
        ) -> AsyncGenerator[Any, None]:
            async with aclosing(call(check(request), context)) as messages:
                async for message in messages:
                    yield message

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
    """A handler whose requests stay bytes until let in: strangers' bytes are not parsed."""

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
    return path[:PATH_MAX]
