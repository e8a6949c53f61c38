"""Who may call what: every method needs a token, but those of grpc.health.

Owns the table of roles. A method that does not stand in it is denied to everyone. Identity comes
from the token alone; no other metadata is looked at.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, NoReturn

import grpc

from services.api.edges import present_call
from services.api.edges.tokens import Tokens
from services.api.logic.caller import Caller, Role, may
from services.domain.errors import CloudError, Denied, Unauthenticated
from services.runtime.rpc import wrap_handler

# Who reads is told by then; a year stands for ever.
GRACE_S = 5.0
LEFT_MAX_S = 365 * 86_400.0
OPEN = frozenset(f"/grpc.health.v1.Health/{method}" for method in ("Check", "Watch", "List"))

_V1 = "/stead.v1."
_BY_ROLE: Mapping[Role, tuple[str, ...]] = {
    Role.READER: (
        f"{_V1}InstanceService/GetInstance",
        f"{_V1}InstanceService/ListInstances",
        f"{_V1}InstanceService/WatchInstances",
        f"{_V1}InstanceService/GetConsoleOutput",
        f"{_V1}OperationService/GetOperation",
        f"{_V1}OperationService/ListOperations",
        f"{_V1}OperationService/WaitOperation",
        f"{_V1}OperationService/WatchOperation",
        f"{_V1}OperationService/WatchOperations",
        f"{_V1}FlavorService/GetFlavor",
        f"{_V1}FlavorService/ListFlavors",
        f"{_V1}ImageService/GetImage",
        f"{_V1}ImageService/ListImages",
        f"{_V1}KeyPairService/GetKeyPair",
        f"{_V1}KeyPairService/ListKeyPairs",
        f"{_V1}ProjectService/GetProject",
        f"{_V1}ProjectService/ListProjects",
        f"{_V1}QuotaService/GetQuota",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ),
    Role.MEMBER: (
        f"{_V1}InstanceService/CreateInstance",
        f"{_V1}InstanceService/BatchCreateInstances",
        f"{_V1}InstanceService/UpdateInstance",
        f"{_V1}InstanceService/StartInstance",
        f"{_V1}InstanceService/StopInstance",
        f"{_V1}InstanceService/RebootInstance",
        f"{_V1}InstanceService/PauseInstance",
        f"{_V1}InstanceService/UnpauseInstance",
        f"{_V1}InstanceService/SuspendInstance",
        f"{_V1}InstanceService/ResumeInstance",
        f"{_V1}InstanceService/DeleteInstance",
        f"{_V1}InstanceService/OpenConsole",
        f"{_V1}OperationService/CancelOperation",
        f"{_V1}ImageService/ImportImage",
        f"{_V1}ImageService/DeleteImage",
        f"{_V1}KeyPairService/CreateKeyPair",
        f"{_V1}KeyPairService/DeleteKeyPair",
    ),
    Role.CLOUD_ADMIN: (
        f"{_V1}AuditService/Audit",
        f"{_V1}AuditService/ListUnknownGuests",
        f"{_V1}AuditService/DiscardGuest",
        f"{_V1}FlavorService/CreateFlavor",
        f"{_V1}FlavorService/DeleteFlavor",
        f"{_V1}HostService/GetHost",
        f"{_V1}HostService/ListHosts",
        f"{_V1}HostService/WatchHosts",
        f"{_V1}HostService/EnableHost",
        f"{_V1}HostService/DisableHost",
        f"{_V1}HostService/FenceHost",
        f"{_V1}HostService/RemoveHost",
        f"{_V1}InstanceService/EvacuateInstance",
        f"{_V1}ProjectService/CreateProject",
        f"{_V1}ProjectService/UpdateProject",
        f"{_V1}ProjectService/DeleteProject",
        f"{_V1}QuotaService/UpdateQuota",
    ),
}
ROLES: Mapping[str, Role] = {
    method: role for role, methods in _BY_ROLE.items() for method in methods
}


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

        async def unary(call: Callable[..., Awaitable[Any]], request: Any, context: Any) -> Any:
            self._begin(method, context)
            return await call(request, context)

        async def stream(
            call: Callable[..., AsyncGenerator[Any, None]], request: Any, context: Any
        ) -> AsyncGenerator[Any, None]:
            with _ending(self._begin(method, context)):
                async with aclosing(call(request, context)) as messages:
                    async for message in messages:
                        yield message

        return wrap_handler(handler, unary, stream)

    def _begin(self, method: str, context: Any) -> Caller:
        metadata = context.invocation_metadata()
        caller = self.admitted(method, metadata)
        present_call.begin(
            caller, context.time_remaining(), lambda: self.admitted(method, metadata)
        )
        return caller

    def admitted(self, method: str, metadata: Any) -> Caller:
        """The caller, if it may call this method. Raises Unauthenticated, Denied (ROLE_MISSING)."""
        found = self._tokens.caller(_bearer(metadata))
        needed = ROLES.get(method)
        if needed is None or not may(found, needed):
            word = needed.name.lower().replace("_", " ") if needed else "role of nobody"
            raise Denied(
                "ROLE_MISSING",
                f"this needs a {word}; the token is not of one",
                metadata={"needed": word},
            )
        return found


@contextlib.contextmanager
def _ending(caller: Caller) -> Iterator[None]:
    """Ends a stream whose token has expired although nobody could say so: it hangs in a write to a
    caller who does not read.
    """
    left_s = min(caller.expires_at_s - time.time(), LEFT_MAX_S)
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(left_s + GRACE_S, task.cancel)
    try:
        yield
    finally:
        timer.cancel()


class Strangers(grpc.GenericRpcHandler):
    """Answers calls of methods that are not there: strangers do not learn which ones there are, for
    them any is UNAUTHENTICATED.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def service(self, handler_call_details: Any) -> Any:
        """A handler that refuses; None, which is UNIMPLEMENTED, for who has a token."""
        try:
            self._tokens.caller(_bearer(handler_call_details.invocation_metadata))
        except Unauthenticated as error:
            return _refusing(error)
        return None


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
