"""Readiness of processes, asked in the way that each kind answers."""

import asyncio

from services.cli.edges.engines import nats, postgres
from services.cli.logic.units import Probe

PATIENCE_S = 2.0


class LocalProbes:
    """Probes that reach this machine's sockets and loopback ports."""

    async def is_ready(self, probe: Probe, *, endpoint: str, admin_endpoint: str) -> bool:
        """Whether it does its work now; false after two seconds without an answer."""
        match probe:
            case Probe.HEALTH:
                return await _is_serving(admin_endpoint)
            case Probe.NATS:
                return await nats.is_ready(endpoint)
            case Probe.POSTGRES:
                return await postgres.is_ready(endpoint)
            case Probe.SOCKET:
                return await _is_open(endpoint)


async def _is_serving(target: str) -> bool:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _is_open(path: str) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(path), PATIENCE_S)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
