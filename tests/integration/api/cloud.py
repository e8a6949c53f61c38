"""The service api as a process of its own, between a real bus and a conductor in memory, and tokens
to call it with.
"""

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from stead.internal.v1 import compute_pb2_grpc, conductor_pb2
from stead.v1 import (
    audit_pb2_grpc,
    flavor_pb2_grpc,
    host_pb2_grpc,
    image_pb2_grpc,
    instance_pb2_grpc,
    key_pair_pb2_grpc,
    operation_pb2_grpc,
    project_pb2_grpc,
    quota_pb2_grpc,
)

from services.runtime import bus, subjects
from tests.engines import PATIENCE_S, Nats, free_port, nats_server
from tests.fakes.conductor import FakeConductor

CLOUD_ID = "0123456789ab"
ROOT = Path(__file__).parents[3]


class Signer:
    """Makes tokens as `stead token create` does."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()

    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def claims(self, project: str, *roles: str, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        return {
            "iss": "stead",
            "aud": CLOUD_ID,
            "sub": f"{project}-user",
            "project": project,
            "roles": list(roles),
            "cloud_admin": False,
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            **more,
        }

    def token(self, project: str, *roles: str, **more: Any) -> str:
        claims = self.claims(project, *roles, **more)
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": "1"})


class User:
    """All public services, called with one token."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None) -> None:
        self.metadata: tuple[tuple[str, str | bytes], ...] = ()
        if token:
            self.metadata = (("authorization", f"Bearer {token}"),)
        self._stubs = [
            instance_pb2_grpc.InstanceServiceStub(channel),
            operation_pb2_grpc.OperationServiceStub(channel),
            flavor_pb2_grpc.FlavorServiceStub(channel),
            image_pb2_grpc.ImageServiceStub(channel),
            host_pb2_grpc.HostServiceStub(channel),
            key_pair_pb2_grpc.KeyPairServiceStub(channel),
            project_pb2_grpc.ProjectServiceStub(channel),
            quota_pb2_grpc.QuotaServiceStub(channel),
            audit_pb2_grpc.AuditServiceStub(channel),
        ]

    def __getattr__(self, method: str) -> Any:
        (stub,) = (s for s in self._stubs if hasattr(s, method))

        def call(request: Any, timeout: float = PATIENCE_S) -> Any:
            return getattr(stub, method)(request, metadata=self.metadata, timeout=timeout)

        return call


class ApiCloud:
    """One api process and all that it needs."""

    def __init__(self, folder: Path, nats: Nats) -> None:
        self.folder = folder
        self.nats = nats
        self.signer = Signer()
        self.conductor = FakeConductor()
        self.port = free_port()
        self.images = folder / "images"
        self.ingress_target = f"unix:{folder}/ingress.sock"
        self.admin_target = f"unix:{folder}/admin.sock"
        self.conductor_target = f"unix:{folder}/conductor.sock"
        self.process: asyncio.subprocess.Process | None = None
        self.settings: dict[str, str] = {}
        self.wrapper: tuple[str, ...] = ()
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{self.port}", options=(("grpc.max_reconnect_backoff_ms", 300),)
        )
        self.ingress_channel = grpc.aio.insecure_channel(self.ingress_target)
        self.ingress: Any = compute_pb2_grpc.ComputeIngressServiceStub(self.ingress_channel)

    def user(self, project: str, *roles: str, **more: Any) -> User:
        return User(self.channel, self.signer.token(project, *roles, **more))

    def admin(self, project: str = "admin") -> User:
        return self.user(project, "admin", cloud_admin=True)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'generated'}",
            "STEAD_CLOUD_ID": CLOUD_ID,
            "STEAD_NATS_URL": self.nats.url,
            "STEAD_NATS_CREDENTIAL_FILE": str(self.nats.credential_file),
            "STEAD_API_LISTEN": f"127.0.0.1:{self.port}",
            "STEAD_API_ADMIN_LISTEN": self.admin_target,
            "STEAD_API_INGRESS_LISTEN": self.ingress_target,
            "STEAD_API_CONDUCTOR": self.conductor_target,
            "STEAD_API_TOKEN_KEY_FILE": str(self.folder / "token.pub"),
            "STEAD_API_IMAGE_DIR": str(self.images),
            "STEAD_API_WATCH_BUFFER_BYTES": str(4 * 1024 * 1024),
            **self.settings,
        }

    async def start_api(self) -> None:
        (self.folder / "token.pub").write_bytes(self.signer.public_pem())
        self.process = await asyncio.create_subprocess_exec(
            *self.wrapper, sys.executable, "-m", "services.api", env=self.environment()
        )

    async def until_ready(self) -> None:
        async with grpc.aio.insecure_channel(self.admin_target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                try:
                    answer = await stub.Check(health_pb2.HealthCheckRequest(service="stead.api"))
                except grpc.aio.AioRpcError:
                    answer = None
                if answer and answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                if self.process is not None and self.process.returncode is not None:
                    raise RuntimeError(f"api ended with {self.process.returncode}")
                await asyncio.sleep(0.05)
        raise TimeoutError("api does not become ready")

    async def end_api(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)


async def until(holds: Callable[[], Any]) -> None:
    """Looks until something that nobody tells of is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # a file or a process tells nobody
            await asyncio.sleep(0.02)


@asynccontextmanager
async def heard(cloud: ApiCloud, kind: int) -> AsyncIterator[asyncio.Event]:
    """Is set when the conductor has answered a question about this noun."""
    event = asyncio.Event()

    async def tell(query: conductor_pb2.Query) -> None:
        if query.kind == kind:
            event.set()

    cloud.conductor.after_read = tell
    try:
        yield event
    finally:
        cloud.conductor.after_read = None


@asynccontextmanager
async def api_cloud(folder: Path) -> AsyncIterator[ApiCloud]:
    """A cloud of which only api is real, ready to be called."""
    with nats_server(folder / "nats") as nats:
        cloud = ApiCloud(folder, nats)
        credential = ("stead", "secret")
        speaking = await bus.connect(nats.url, name="conductor", credential=credential)

        async def publish(payload: bytes) -> None:
            await speaking.publish(subjects.feed(CLOUD_ID), payload)

        cloud.conductor.publish = publish
        await cloud.conductor.start(cloud.conductor_target)
        await cloud.start_api()
        try:
            await cloud.until_ready()
            yield cloud
        finally:
            await cloud.end_api()
            await cloud.conductor.stop()
            await cloud.channel.close()
            await cloud.ingress_channel.close()
            await speaking.close()


class Refusal:
    """A failed call, read as a client would."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        self.reason, self.metadata, self.fields = "", {}, []
        self.quota: dict[str, str] = {}
        self.preconditions: list[tuple[str, str]] = []
        self.retry_s: float | None = None
        status = rpc_status.from_call(error)
        self.bytes = status.ByteSize() if status else 0
        for detail in status.details if status else ():
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            retry, quota = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
            failed = error_details_pb2.PreconditionFailure()
            if detail.Unpack(info):
                assert info.domain == "stead"
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                self.fields = [violation.field for violation in bad.field_violations]
            elif detail.Unpack(retry):
                self.retry_s = retry.retry_delay.ToMilliseconds() / 1000
            elif detail.Unpack(quota):
                self.quota = {v.subject: v.description for v in quota.violations}
            elif detail.Unpack(failed):
                self.preconditions = [(v.type, v.subject) for v in failed.violations]


async def refusal(call: Any) -> Refusal:
    """The refusal that a call ends with; also of a stream."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
    raise AssertionError("the call was not refused")


def new_id() -> str:
    return str(uuid.uuid4())
