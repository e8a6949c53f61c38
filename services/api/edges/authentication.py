"""Who may call what: every method needs a token, but those of grpc.health.

Owns the table of roles. A method that does not stand in it is denied to everyone. Identity comes
from the token alone; no other metadata is looked at.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc

from services.api.edges.tokens import Tokens
from services.api.logic.caller import Caller, Role, may
from services.domain.errors import CloudError, Denied, Unauthenticated
from services.runtime.rpc import wrap_handler

OPEN = frozenset(f"/grpc.health.v1.Health/{method}" for method in ("Check", "Watch", "List"))

_V1 = "/stead.v1."
ROLES: Mapping[str, Role] = {
    f"{_V1}InstanceService/CreateInstance": Role.MEMBER,
    f"{_V1}InstanceService/GetInstance": Role.READER,
    f"{_V1}InstanceService/ListInstances": Role.READER,
    f"{_V1}InstanceService/DeleteInstance": Role.MEMBER,
    f"{_V1}InstanceService/WatchInstances": Role.READER,
    f"{_V1}InstanceService/GetConsoleOutput": Role.READER,
    f"{_V1}OperationService/GetOperation": Role.READER,
    f"{_V1}OperationService/ListOperations": Role.READER,
    f"{_V1}OperationService/WaitOperation": Role.READER,
    f"{_V1}FlavorService/CreateFlavor": Role.CLOUD_ADMIN,
    f"{_V1}FlavorService/GetFlavor": Role.READER,
    f"{_V1}FlavorService/ListFlavors": Role.READER,
    f"{_V1}FlavorService/DeleteFlavor": Role.CLOUD_ADMIN,
    f"{_V1}ImageService/ImportImage": Role.MEMBER,
    f"{_V1}ImageService/GetImage": Role.READER,
    f"{_V1}ImageService/ListImages": Role.READER,
    f"{_V1}ImageService/DeleteImage": Role.MEMBER,
    f"{_V1}HostService/GetHost": Role.CLOUD_ADMIN,
    f"{_V1}HostService/ListHosts": Role.CLOUD_ADMIN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Role.READER,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.READER,
}

_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who makes the present call."""
    return _caller.get()


class Authentication(grpc.aio.ServerInterceptor):
    """Lets a call through to its method when its token and role allow it."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the method's behaviour."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if method in OPEN:
            return handler
        metadata = handler_call_details.invocation_metadata
        if handler is None:
            return self._unknown(metadata)

        async def unary(call: Callable[..., Awaitable[Any]], request: Any, context: Any) -> Any:
            _caller.set(self.admitted(method, metadata))
            return await call(request, context)

        async def stream(
            call: Callable[..., AsyncIterator[Any]], request: Any, context: Any
        ) -> AsyncIterator[Any]:
            _caller.set(self.admitted(method, metadata))
            async for message in call(request, context):
                yield message

        return wrap_handler(handler, unary, stream)

    def _unknown(self, metadata: Any) -> Any:
        """Strangers do not learn which methods there are: for them any is UNAUTHENTICATED."""
        try:
            self._tokens.caller(_bearer(metadata))
        except Unauthenticated as error:
            return _refusing(error)
        return None

    def admitted(self, method: str, metadata: Any) -> Caller:
        """The caller, if it may call this method. Raises Unauthenticated, Denied (ROLE_MISSING)."""
        found = self._tokens.caller(_bearer(metadata))
        needed = ROLES.get(method)
        if needed is None or not may(found, needed):
            word = needed.name.lower().replace("_", " ") if needed else "another"
            raise Denied(
                "ROLE_MISSING",
                f"this needs the role of a {word}; the token does not have it",
                metadata={"needed": word},
            )
        return found


def _refusing(error: CloudError) -> Any:
    def refuse(*_: Any) -> NoReturn:
        raise error

    return grpc.stream_stream_rpc_method_handler(refuse)


def _bearer(metadata: Any) -> str:
    values = [value for key, value in metadata or () if key == "authorization"]
    if not values:
        raise Unauthenticated(
            "TOKEN_MISSING",
            "every call needs a token in the metadata `authorization: Bearer TOKEN`",
        )
    value = values[0] if len(values) == 1 and isinstance(values[0], str) else ""
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "TOKEN_INVALID", "the metadata must read `authorization: Bearer TOKEN`"
        )
    return token.strip()
