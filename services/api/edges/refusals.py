"""How a refusal reaches its caller, where an error in its wire form is not yet enough.

Owns that violations are told all at once, as BadRequest beside ErrorInfo (INVALID_FIELD) within 4
KiB; what stands beside ErrorInfo for a quota (QuotaFailure) and for a state that does not allow it
(PreconditionFailure); and that the rest of a refused upload is let in for a moment: a client that
is cut off in the middle of sending sees a broken call instead of the reason.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from services.api.edges.conductor_messages import QuotaExceeded
from services.api.edges.validation import InvalidFields
from services.domain.errors import CloudError, Invalid, WrongState
from services.runtime.rpc import abort_with, add_detail, status_of, wrap_handler

VIOLATIONS_MAX = 12
TEXT_MAX = 120
LET_IN_S = 3.0


class Refusals(grpc.aio.ServerInterceptor):
    """Stands outside of whatever may refuse a call."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's behaviour."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        is_upload = handler.request_streaming and not handler.response_streaming

        async def unary(call: Callable[..., Awaitable[Any]], request: Any, context: Any) -> Any:
            try:
                return await call(request, context)
            except (CloudError, InvalidFields) as refused:
                if is_upload:
                    await _let_in(request)
                await abort_with(context, status_for(refused))

        async def stream(
            call: Callable[..., AsyncGenerator[Any, None]], request: Any, context: Any
        ) -> AsyncGenerator[Any, None]:
            try:
                async with contextlib.aclosing(call(request, context)) as messages:
                    async for message in messages:
                        yield message
            except (CloudError, InvalidFields) as refused:
                await abort_with(context, status_for(refused))

        return wrap_handler(handler, unary, stream)


async def _let_in(requests: AsyncIterator[Any]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LET_IN_S):
            async for _ in requests:
                pass


def status_for(refused: CloudError | InvalidFields) -> status_pb2.Status:
    """A refusal of a public call in its wire form."""
    if isinstance(refused, InvalidFields):
        return _status_of_fields(refused)
    status = status_of(refused)
    if isinstance(refused, QuotaExceeded):
        add_detail(status, _quota_failure(refused))
    if isinstance(refused, WrongState):
        add_detail(status, _precondition_failure(refused))
    return status


def _quota_failure(refused: QuotaExceeded) -> error_details_pb2.QuotaFailure:
    return error_details_pb2.QuotaFailure(
        violations=[
            error_details_pb2.QuotaFailure.Violation(subject=resource, description=why[:TEXT_MAX])
            for resource, why in sorted(refused.violations.items())
        ]
    )


def _precondition_failure(refused: WrongState) -> error_details_pb2.PreconditionFailure:
    return error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(
                type=refused.reason,
                subject=refused.metadata.get("id", ""),
                description=refused.message[:TEXT_MAX],
            )
        ]
    )


def _status_of_fields(invalid: InvalidFields) -> status_pb2.Status:
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
    add_detail(status, bad)
    return status
