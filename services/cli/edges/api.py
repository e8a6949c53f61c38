"""The cloud's public door: one channel, the token on every call, its refusals in readable form.

Owns retries: a call is sent again with the same request id while the cloud is UNAVAILABLE, for a
bounded time; the first of them are the channel's own, by the published service config.
"""

import contextlib
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from stead.v1 import operation_pb2, operation_pb2_grpc

from services.cli.edges.terminal import whisper
from services.cli.logic.options import target_address, target_of
from services.cli.logic.refusal import Refusal
from services.cli.logic.surroundings import Surroundings
from services.domain.errors import Unauthenticated

CALL_S = 30.0
PATIENCE_S = 20.0
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 1.0
# A stream may say nothing for a minute: only a ping tells a silent cloud from one that is gone.
SILENCE_S = 20.0
DEFAULT_ENDPOINT = "127.0.0.1:8774"
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

Answer = TypeVar("Answer")


class Api:
    """A connection to one cloud with one token."""

    def __init__(
        self, target: str, token: str, *, patience_s: float, silence_s: float = SILENCE_S
    ) -> None:
        self.target = target
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._patience_s = patience_s
        self.channel = grpc.insecure_channel(
            target,
            options=(
                ("grpc.service_config", service_config()),
                ("grpc.enable_retries", int(patience_s > 0)),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.max_receive_message_length", 8 * 1024 * 1024),
                ("grpc.keepalive_time_ms", int(silence_s * 1000)),
                ("grpc.keepalive_timeout_ms", int(silence_s * 500)),
                ("grpc.http2.max_pings_without_data", 0),
                # The library's own ping, of a minute, would otherwise stand before ours.
                ("grpc.http2.ping_timeout_ms", int(silence_s * 500)),
            ),
        )

    def call(
        self, method: Callable[..., Answer], request: Any, *, timeout_s: float = CALL_S
    ) -> Answer:
        """One answer. Raises Refusal."""
        return self.retry(lambda: method(request, timeout=timeout_s, metadata=self._metadata))

    @property
    def is_patient(self) -> bool:
        """Whether it is of use to try again: somebody starts again what died."""
        return self._patience_s > 0

    def stream(
        self, method: Callable[..., Any], request: Any, *, timeout_s: float | None = None
    ) -> Iterator[Any]:
        """The answers of a stream, one by one. Raises Refusal."""
        call = self.started(method, request, timeout_s=timeout_s)
        try:
            yield from self.heard(call)
        finally:
            call.cancel()

    def started(
        self, method: Callable[..., Any], request: Any, *, timeout_s: float | None = None
    ) -> Any:
        """The call itself, for those who must be able to cancel it. `request` may be a stream."""
        return method(request, timeout=timeout_s, metadata=self._metadata)

    def heard(self, call: Any) -> Iterator[Any]:
        """The answers of a call that was started. Raises Refusal."""
        try:
            yield from call
        except grpc.RpcError as error:
            raise refusal_of_call(error, self.target) from error

    def upload(self, method: Callable[..., Answer], parts: Callable[[], Iterator[Any]]) -> Answer:
        """One answer to a stream of parts, made anew for each try. Raises Refusal."""
        return self.retry(lambda: method(parts(), metadata=self._metadata))

    def retry(self, attempt: Callable[[], Answer]) -> Answer:
        """The attempt's answer, tried again while the cloud is UNAVAILABLE and patience lasts."""
        until_s = time.monotonic() + self._patience_s
        delay_s = RETRY_FIRST_S
        told = False
        while True:
            try:
                return attempt()
            except grpc.RpcError as error:
                refusal = refusal_of_call(error, self.target)
                if refusal.code != "UNAVAILABLE" or time.monotonic() + delay_s > until_s:
                    raise refusal from error
            if not told and delay_s >= RETRY_MAX_S:
                told = True
                whisper(f"{refusal.message}; trying for {self._patience_s:.0f} s")
            time.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_MAX_S)

    def operation_wait(self, operation_id: str, timeout_s: float) -> Mapping[str, Any]:
        """The operation's JSON when it has ended, or as it is after the timeout. Raises Refusal."""
        request = operation_pb2.WaitOperationRequest(id=operation_id)
        request.timeout.FromMilliseconds(int(timeout_s * 1000))
        stub = operation_pb2_grpc.OperationServiceStub(self.channel)
        answer = self.call(stub.WaitOperation, request, timeout_s=timeout_s + CALL_S)
        return as_json(answer.operation)

    def close(self) -> None:
        """Ends the connection."""
        self.channel.close()


@contextlib.contextmanager
def connected(around: Surroundings, *, patience_s: float = PATIENCE_S) -> Iterator[Api]:
    """The cloud that the environment names. Raises Refusal, Invalid, Unauthenticated
    (TOKEN_MISSING, TOKEN_INVALID).
    """
    from services.cli.edges.homes import HomeStore

    store = HomeStore(around.home, tell=lambda line: print(line, file=sys.stderr))
    state = None if around.endpoint else store.state_read()
    if around.endpoint:
        target_address(around.endpoint)
        target = target_of(around.endpoint.split(","))
    else:
        target = target_of((state.listens if state else ()) or (DEFAULT_ENDPOINT,))
    supervised = state is None or store.is_locked()
    # Where nobody starts again what died, patience is of no use.
    api = Api(target, _token(around), patience_s=patience_s if supervised else 0)
    try:
        yield api
    except Refusal as refusal:
        if refusal.reason != "PEER_UNREACHABLE" or supervised:
            raise
        words = f"the cloud of {around.home.path} is not running"
        raise Refusal("UNAVAILABLE", "CLOUD_NOT_RUNNING", words) from refusal
    finally:
        api.close()


def refusal_of_call(error: Any, target: str) -> Refusal:
    """A failed call's code, ErrorInfo and BadRequest."""
    code = error.code().name
    status = rpc_status.from_call(error)
    refusal = Refusal(code, "", error.details() or code)
    for detail in status.details if status is not None else ():
        cause, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Is(cause.DESCRIPTOR):
            detail.Unpack(cause)
            refusal.reason = cause.reason
            refusal.metadata = dict(cause.metadata)
        elif detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
            refusal.field_violations = [
                {"field": v.field, "description": v.description} for v in bad.field_violations
            ]
    if not refusal.reason:
        refusal.reason = (
            "PEER_UNREACHABLE" if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") else code
        )
        if refusal.reason == "PEER_UNREACHABLE":
            refusal.message = f"no answer from {target}"
            refusal.metadata = {"endpoint": target}
    return refusal


def as_json(message: Message) -> dict[str, Any]:
    """The protobuf JSON mapping with the proto's own names; fields that are not set stand with
    their defaults.
    """
    mapped = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return {f.name: mapped[f.name] for f in message.DESCRIPTOR.fields if f.name in mapped}


def service_config() -> str:
    """The published policy, docs/service-config.json: which calls are retried, and when."""
    return resources.files("services.cli.edges").joinpath("service_config.json").read_text()


def new_request_id() -> str:
    """A request id of this command's own."""
    return str(uuid.uuid4())


def _token(around: Surroundings) -> str:
    try:
        token = around.token_file.read_text("ascii", errors="replace").strip()
    except OSError as error:
        raise Unauthenticated(
            "TOKEN_MISSING", f"no token: {around.token_file}: {error.strerror}"
        ) from error
    if not _TOKEN.fullmatch(token):
        raise Unauthenticated("TOKEN_INVALID", f"{around.token_file} does not hold a token")
    return token
