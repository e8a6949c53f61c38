"""A process that speaks gRPC starts others: none of them may die of gRPC's fork handlers."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

BUSY_AND_STARTING = """
import asyncio
import services
import grpc
import uvloop

async def keep_calling(call):
    while True:
        try:
            await call(b"")
        except grpc.RpcError:
            pass

async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    load = [asyncio.ensure_future(keep_calling(channel.unary_unary("/a/b"))) for _ in range(4)]
    codes = set()
    for number in range(100):
        child = await asyncio.create_subprocess_exec("true")
        codes.add(await child.wait())
        if number % 3 == 0:
            await asyncio.sleep(0.01)
    for each in load:
        each.cancel()
    print(codes)

uvloop.run(main())
"""


def test_grpc_does_nothing_around_the_fork_of_a_child():
    ended = subprocess.run(
        [sys.executable, "-c", BUSY_AND_STARTING],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "{0}"), ended.stderr
    assert "fork" not in ended.stderr
