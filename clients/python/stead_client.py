"""How a Python program reaches stead: a connection with retries, errors as they are meant, a watch
that outlives its connections. Owns nothing of stead: it stands on the contract alone.
"""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from stead.v1 import (
    flavor_pb2_grpc,
    image_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
    operation_pb2_grpc,
    quota_pb2_grpc,
)

BOOKMARK_S = 5
WAIT_FIRST_S = 0.1
WAIT_MOST_S = 5.0
RESUMED = frozenset("WATCH_TOO_SLOW API_STOPPING REVISION_COMPACTED TOKEN_EXPIRED".split())
ROAD = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    )
)


@dataclass(frozen=True)
class Door:
    """Where an api is (HOST:PORT), who calls (a file with the token), how calls are tried again
    (docs/service-config.json), and the PEM of the proxy's authority, None without TLS.
    """

    endpoint: str
    token_file: pathlib.Path
    service_config: pathlib.Path
    ca: pathlib.Path | None = None


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str], ...]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _WithToken(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Reads the token anew for each call: it expires, and whoever renews it replaces the file."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(self._with_token(client_call_details), request)

    def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(self._with_token(client_call_details), request)

    def _with_token(self, told: Any) -> _Details:
        bearer = ("authorization", f"Bearer {self._file.read_text().strip()}")
        metadata = (*(told.metadata or ()), bearer)
        kept = (told.credentials, told.wait_for_ready, told.compression)
        return _Details(told.method, told.timeout, metadata, *kept)


class Cloud:
    """One connection with the services that are used here; the first call on it connects."""

    def __init__(self, door: Door) -> None:
        options = (
            ("grpc.service_config", door.service_config.read_text()),
            ("grpc.keepalive_time_ms", 60_000),
        )
        if door.ca is None:
            self._channel = grpc.insecure_channel(door.endpoint, options=options)
        else:
            roots = grpc.ssl_channel_credentials(door.ca.read_bytes())
            self._channel = grpc.secure_channel(door.endpoint, roots, options=options)
        channel = grpc.intercept_channel(self._channel, _WithToken(door.token_file))
        self.instances = instance_pb2_grpc.InstanceServiceStub(channel)
        self.operations = operation_pb2_grpc.OperationServiceStub(channel)
        self.flavors = flavor_pb2_grpc.FlavorServiceStub(channel)
        self.images = image_pb2_grpc.ImageServiceStub(channel)
        self.quotas = quota_pb2_grpc.QuotaServiceStub(channel)

    def close(self) -> None:
        """Ends the connection and every stream on it."""
        self._channel.close()


@dataclass
class Refusal:
    """What stead says when it does not do what was asked. Without a reason it came from the road,
    not from stead.
    """

    code: grpc.StatusCode
    message: str  # for people
    reason: str = ""  # stable, in docs/errors.md; programs decide by it
    metadata: dict[str, str] = field(default_factory=dict)  # the variables of the message
    fields: list[str] = field(default_factory=list)
    preconditions: list[str] = field(default_factory=list)
    quotas: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        details = "; ".join([*self.fields, *self.preconditions, *self.quotas])
        return f"{self.code.name} {self.reason}: {self.message} [{details}]"


def refusal_of(error: Any) -> Refusal:
    """Reads the error of a call."""
    refusal = Refusal(error.code(), error.details() or "")
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        precondition = error_details_pb2.PreconditionFailure()
        quota = error_details_pb2.QuotaFailure()
        if detail.Unpack(info) and info.domain == "stead":
            refusal.reason, refusal.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            refusal.fields = [f"{v.field}: {v.description}" for v in bad.field_violations]
        elif detail.Unpack(precondition):
            refusal.preconditions = [f"{v.type} of {v.subject}" for v in precondition.violations]
        elif detail.Unpack(quota):
            refusal.quotas = [f"{v.subject}: {v.description}" for v in quota.violations]
    return refusal


class Watch:
    """Follows the instances of the token's project through any number of cut connections.

    `doors` are replicas of one cloud, each new connection goes to the next one; `cut_each` drops
    the connection after each change, to show that nothing gets lost.
    """

    def __init__(self, doors: Sequence[Door], *, cut_each: bool = False) -> None:
        self._doors = doors
        self._cut_each = cut_each
        self._resume = ""  # the token of the last message that was handled
        self._stopped = threading.Event()
        self._stream: Any = None
        self.reconnects = 0
        self.refusals: list[Refusal] = []

    def stop(self) -> None:
        """Ends `follow`, from any thread."""
        self._stopped.set()
        if self._stream is not None:
            self._stream.cancel()

    def follow(self) -> Iterator[instance_pb2.WatchInstancesResponse]:
        """Every change exactly once and in order, until `stop`; what exists comes again should a
        snapshot be cut before its end. A fault of one's own, a file that is not there, ends it.
        """
        wait_s = WAIT_FIRST_S
        while not self._stopped.is_set():
            before = self._resume
            try:
                yield from self._connect()
            except grpc.RpcError as error:
                refusal = refusal_of(error)
                if self._stopped.is_set():
                    return
                if not may_resume(refusal):
                    raise
                self.refusals.append(refusal)
                if refusal.reason == "REVISION_COMPACTED":
                    # What was missed is not kept any more: a snapshot says what is now.
                    self._resume = ""
            self.reconnects += 1
            if self._resume != before:
                wait_s = WAIT_FIRST_S
                continue
            self._stopped.wait(wait_s)
            wait_s = min(2 * wait_s, WAIT_MOST_S)

    def _connect(self) -> Iterator[instance_pb2.WatchInstancesResponse]:
        """One stream on a connection of its own."""
        cloud = Cloud(self._doors[self.reconnects % len(self._doors)])
        try:
            self._stream = cloud.instances.WatchInstances(
                instance_pb2.WatchInstancesRequest(
                    resume_token=self._resume,
                    bookmark_interval=duration_pb2.Duration(seconds=BOOKMARK_S),
                )
            )
            if self._stopped.is_set():
                return  # `stop` has cancelled the stream before this one
            for message in self._stream:
                yield message
                self._resume = message.resume_token
                if self._cut_each and message.WhichOneof("event") == "change":
                    return
        finally:
            cloud.close()


def may_resume(refusal: Refusal) -> bool:
    """Tells a lost stream from one that would be refused again. What has one of these codes and no
    reason of stead's is a failure of the road: a proxy's timeout, a killed replica, a broken line.
    """
    if refusal.reason in RESUMED:
        return True
    if refusal.reason == "":
        return refusal.code in ROAD
    return refusal.code == grpc.StatusCode.UNAVAILABLE
