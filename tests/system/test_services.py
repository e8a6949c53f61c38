"""Each service is a process of its own: environment and files, liveness, readiness, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli.edges import keys
from services.cli.edges.homes import HomeStore
from services.cli.edges.probes import LocalProbes
from services.cli.edges.processes import start_ticks
from services.cli.logic.home import Home
from services.cli.logic.options import Options
from services.cli.logic.units import Backing, Probe, Unit, services_of
from tests.engines import free_port
from tests.system.launched import PATIENCE_S, Launched, eventually, launched, short_home

SERVICES = ("conductor", "scheduler", "api", "compute")
STOP_S = 10


@pytest.fixture(scope="module")
def running() -> Iterator[Launched]:
    with launched() as cloud:
        cloud.up()
        yield cloud


@pytest.fixture
def alone() -> Iterator[dict[str, Unit]]:
    """The four as they would be started where nothing that they need is there."""
    with short_home() as folder:
        home = Home(folder)
        cloud_id = HomeStore(home, tell=lambda line: None).open()
        keys.make_keys(home)
        home.nats_credential_file.write_text("nobody:nothing")
        home.nats_credential_file.chmod(0o600)
        listen = f"127.0.0.1:{free_port()}"
        backing = Backing(
            cloud_id=cloud_id,
            postgres_url=f"postgresql://stead@/stead?host={home.run}",
            nats_url=f"nats://127.0.0.1:{free_port()}",
            nats_credential_file=str(home.nats_credential_file),
            libvirt_uri="",
            engines=frozenset(),
            python=sys.executable,
            machine="alone",
            api_listens=(listen,),
        )
        options = Options(drivers=("fake",), listen=listen)
        yield {unit.name: unit for unit in services_of(home, options, backing)}


def health(target: str) -> int | None:
    """What a service says of itself on its admin port; None if nothing answers."""
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status)
        except grpc.RpcError:
            return None


@pytest.mark.parametrize("name", SERVICES)
def test_alone_it_lives_is_not_ready_and_ends_in_time(alone: dict[str, Unit], name: str) -> None:
    unit = alone[name]
    # Nothing but its settings: neither HOME nor PATH nor a word in argv.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", f"services.{name}"],
        env=dict(unit.environment),
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        eventually(lambda: health(unit.admin_endpoint) is not None, f"{name} answers")
        time.sleep(1)
        assert health(unit.admin_endpoint) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert process.poll() is None
        process.terminate()
        said, _ = process.communicate(timeout=STOP_S)
    finally:
        process.kill()
    assert process.returncode == 0, said.decode()


@pytest.mark.parametrize("name", SERVICES)
def test_with_what_it_needs_it_is_ready_and_ends_in_time(running: Launched, name: str) -> None:
    (seat,) = [seat for seat in running.state()["seats"] if seat["name"] == name]
    eventually(
        lambda: health(seat["admin_endpoint"]) == health_pb2.HealthCheckResponse.SERVING,
        f"{name} is ready",
    )
    os.kill(seat["pid"], signal.SIGTERM)
    began = time.monotonic()
    while start_ticks(seat["pid"]) == seat["started"]:
        assert time.monotonic() - began < STOP_S
        time.sleep(0.05)
    eventually(running.healthy, "started again")


def test_up_gives_its_services_settings_and_files_and_nothing_else(running: Launched) -> None:
    for seat in running.state()["seats"]:
        if seat["name"] not in SERVICES:
            continue
        words = Path(f"/proc/{seat['pid']}/cmdline").read_bytes().decode().split("\0")[:-1]
        assert words[1:] == ["-P", "-m", f"services.{seat['name']}"]
        pairs = Path(f"/proc/{seat['pid']}/environ").read_bytes().decode().split("\0")
        given = {pair.partition("=")[0] for pair in pairs if pair.startswith("STEAD_")}
        shared = {"STEAD_CLOUD_ID", "STEAD_NATS_URL", "STEAD_NATS_CREDENTIAL_FILE"}
        assert all(name.startswith(f"STEAD_{seat['name'].upper()}_") for name in given - shared)
        # No pipe, no inherited socket: only a log joins it to whoever started it.
        log = running.home / "logs" / f"{seat['name']}.log"
        for number in ("0", "1", "2"):
            place = (Path("/proc") / str(seat["pid"]) / "fd" / number).readlink()
            assert place in (Path("/dev/null"), log)


def ticks(pid: int) -> int:
    """CPU time of a process, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_an_idle_supervisor_takes_no_time(running: Launched) -> None:
    eventually(running.healthy, "up")
    before = ticks(running.supervisor())
    time.sleep(5)
    assert ticks(running.supervisor()) - before < 25


def test_a_signal_to_the_supervisor_ends_all_that_it_started() -> None:
    with launched() as cloud:
        cloud.up()
        ran = [cloud.supervisor(), *cloud.pids().values()]
        for _ in range(3):
            # Whoever is impatient shortens nothing and breaks nothing.
            os.kill(ran[0], signal.SIGINT)
            time.sleep(0.05)
        eventually(lambda: all(start_ticks(pid) is None for pid in ran), "all ended")
        assert cloud.state()["phase"] == "down"


def test_a_probe_of_nothing_is_a_no(tmp_path: Path) -> None:
    for probe in Probe:
        asked = LocalProbes().is_ready(
            probe,
            endpoint=f"nats://127.0.0.1:{free_port()}" if probe is Probe.NATS else str(tmp_path),
            admin_endpoint=f"unix:{tmp_path}/none",
        )
        assert asyncio.run(asyncio.wait_for(asked, PATIENCE_S)) is False
