"""Two replicas of api over the real conductor, PostgreSQL and bus: one keeps many changes, the
other a handful.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from stead.internal.v1 import compute_pb2_grpc, conductor_pb2, conductor_pb2_grpc, resource_pb2

from tests.engines import PATIENCE_S, nats_server, postgres
from tests.integration.api.cloud import ApiCloud

READ_MAX = 500


class Replica(ApiCloud):
    """Another api of the same cloud."""

    def __init__(self, first: ApiCloud, *, buffer_bytes: int) -> None:
        super().__init__(first.folder, first.nats)
        self.signer = first.signer
        self.buffer_bytes = buffer_bytes
        self.ingress_target = f"unix:{first.folder}/ingress-{self.port}.sock"
        self.admin_target = f"unix:{first.folder}/admin-{self.port}.sock"
        self.ingress_channel = grpc.aio.insecure_channel(self.ingress_target)
        self.ingress = compute_pb2_grpc.ComputeIngressServiceStub(self.ingress_channel)

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "STEAD_API_WATCH_BUFFER_BYTES": str(self.buffer_bytes),
            "STEAD_API_PAGE_KEY_FILE": str(self.folder / "page.key"),
        }


class Replicas:
    """Two doors of one cloud, and the truth behind them."""

    def __init__(self, apis: list[Replica], conductor: grpc.aio.Channel) -> None:
        self.apis = apis
        self._conductor: conductor_pb2_grpc.ConductorServiceAsyncStub = (
            conductor_pb2_grpc.ConductorServiceStub(conductor)
        )

    async def log(self) -> list[resource_pb2.Resource]:
        """The whole change log."""
        changes: list[resource_pb2.Resource] = []
        while True:
            after = changes[-1].revision if changes else 0
            request = conductor_pb2.ReadChangesRequest(after_revision=after, limit=READ_MAX)
            batch = (await self._conductor.ReadChanges(request, timeout=PATIENCE_S)).batch
            changes += batch.changes
            if not batch.changes:
                return changes


@asynccontextmanager
async def replicas(folder: Path) -> AsyncIterator[Replicas]:
    """A cloud without hosts, ready to be called at both doors."""
    with postgres(folder / "pg") as database, nats_server(folder / "nats") as nats:
        (folder / "page.key").write_bytes(b"k" * 32)
        first = Replica(ApiCloud(folder, nats), buffer_bytes=1 << 20)
        second = Replica(first, buffer_bytes=20_000)
        environment = {
            **first.environment(),
            "STEAD_CONDUCTOR_LISTEN": first.conductor_target,
            "STEAD_CONDUCTOR_ADMIN_LISTEN": f"unix:{folder}/conductor-admin.sock",
            "STEAD_CONDUCTOR_POSTGRES_URL": database.url(),
        }
        argv = (sys.executable, "-m", "services.conductor")
        conductor = await asyncio.create_subprocess_exec(*argv, env=environment)
        apis = [first, second]
        async with grpc.aio.insecure_channel(first.conductor_target) as channel:
            try:
                for api in apis:
                    await api.start_api()
                await asyncio.gather(*(api.until_ready() for api in apis))
                yield Replicas(apis, channel)
            finally:
                for api in apis:
                    await api.end_api()
                    await api.channel.close()
                    await api.ingress_channel.close()
                conductor.terminate()
                await asyncio.wait_for(conductor.wait(), PATIENCE_S)
