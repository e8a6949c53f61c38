"""The units of deploy/systemd start a cloud: by their own ExecStart lines, without systemd."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines import PG_BIN
from tests.system.launched import PATIENCE_S, Launched, eventually, launched

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
NAMES = ("postgres", "nats", "conductor", "scheduler", "api", "compute")
STOP_S = 10


@dataclass(frozen=True)
class Unit:
    """What systemd would read of one file."""

    name: str
    fields: Mapping[str, list[str]]

    def argv(self, environment: Mapping[str, str]) -> list[str]:
        """The words of ExecStart, with ${NAME} replaced as systemd does."""
        (line,) = self.fields["ExecStart"]
        return [re.sub(r"\$\{(\w+)\}", lambda m: environment[m[1]], word) for word in line.split()]

    def environment(self, folder: Path) -> dict[str, str]:
        """What the EnvironmentFile lines give, the files lying in `folder`."""
        pairs = {}
        for file in self.fields["EnvironmentFile"]:
            assert file.startswith("/etc/stead/")
            for line in (folder / Path(file).name).read_text().splitlines():
                key, _, value = line.partition("=")
                pairs[key] = value
        return pairs


def read_unit(name: str) -> Unit:
    fields: dict[str, list[str]] = {}
    for line in (UNITS / f"stead-{name}.service").read_text().splitlines():
        if line and not line.startswith(("[", "#")):
            key, _, value = line.partition("=")
            fields.setdefault(key, []).append(value)
    return Unit(name, fields)


def write_settings(cloud: Launched, folder: Path) -> None:
    """The files of /etc/stead, as the README of the units says."""
    run, home = cloud.home / "run", cloud.home
    (port,) = re.findall(r"^port: (\d+)$", (run / "nats.conf").read_text(), re.MULTILINE)
    cloud_id = json.loads((home / "cloud.json").read_text())["cloud_id"]
    conductor, ingress = f"unix:{run}/conductor.sock", f"unix:{run}/ingress.sock"
    settings = {
        "cloud": {
            "STEAD_HOME": home,
            "STEAD_PYTHON": sys.executable,
            "STEAD_CLOUD_ID": cloud_id,
            "STEAD_NATS_URL": f"nats://127.0.0.1:{port}",
            "STEAD_NATS_CREDENTIAL_FILE": run / "nats.credential",
        },
        "nats": {"STEAD_NATS_SERVER": Path(sys.executable).parent / "nats-server"},
        "postgres": {"STEAD_POSTGRES": PG_BIN / "postgres"},
        "conductor": {
            "STEAD_CONDUCTOR_LISTEN": conductor,
            "STEAD_CONDUCTOR_POSTGRES_URL": f"postgresql://stead@/stead?host={run}",
        },
        "scheduler": {"STEAD_SCHEDULER_CONDUCTOR": conductor},
        "api": {
            "STEAD_API_LISTEN": cloud.endpoint,
            "STEAD_API_INGRESS_LISTEN": ingress,
            "STEAD_API_CONDUCTOR": conductor,
            "STEAD_API_TOKEN_KEY_FILE": home / "keys" / "token.pub",
            "STEAD_API_PAGE_KEY_FILE": home / "keys" / "page.key",
            "STEAD_API_IMAGE_DIR": home / "images",
        },
        "compute": {
            "STEAD_COMPUTE_API": ingress,
            "STEAD_COMPUTE_DRIVER": "fake",
            # The host that the home knows already: a second one might be chosen while it is gone.
            "STEAD_COMPUTE_HOST_ID": "fake",
            "STEAD_COMPUTE_STATE_DIR": home / "compute" / "fake",
        },
    }
    for name, pairs in settings.items():
        admin = {}
        if name in ("conductor", "scheduler", "api", "compute"):
            admin = {f"STEAD_{name.upper()}_ADMIN_LISTEN": f"unix:{run}/{name}-0-admin.sock"}
        lines = [f"{key}={value}" for key, value in {**pairs, **admin}.items()]
        (folder / f"{name}.env").write_text("\n".join(lines) + "\n")


def start(unit: Unit, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """What systemd does with `unit`."""
    environment = unit.environment(folder)
    argv = unit.argv(environment)
    if unit.name == "postgres" and os.geteuid() == 0:
        # The unit says User=stead; root itself may not run PostgreSQL.
        argv = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *argv]
    with log.open("ab") as output:
        return subprocess.Popen(
            argv, env={"PATH": os.environ["PATH"], **environment}, stdout=output, stderr=output
        )


def stop(unit: Unit, process: subprocess.Popen[bytes]) -> None:
    """Ends it as the unit says, within the time that the unit gives."""
    (number,) = unit.fields.get("KillSignal", ["SIGTERM"])
    process.send_signal(signal.Signals[number])
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE_S)
        raise


@pytest.fixture(scope="module")
def prepared() -> Iterator[Launched]:
    with launched() as cloud:
        cloud.up()
        cloud.ok("down")
        yield cloud


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_says_what_its_administrator_relies_on(name: str) -> None:
    fields = read_unit(name).fields
    assert fields["User"] == ["stead"]
    assert fields["Restart"] == ["always"]
    assert fields["TimeoutStopSec"] == [f"{STOP_S}s"]
    assert fields["EnvironmentFile"] == ["/etc/stead/cloud.env", f"/etc/stead/{name}.env"]
    assert fields["ExecStart"][0].startswith("/usr/bin/env ${STEAD_")


def test_there_is_a_unit_for_each_service_and_no_other() -> None:
    assert {file.stem for file in UNITS.glob("*.service")} == {f"stead-{name}" for name in NAMES}


def test_the_units_start_a_cloud_that_makes_an_instance_and_ends_in_time(
    prepared: Launched, tmp_path: Path
) -> None:
    write_settings(prepared, tmp_path)
    units = [read_unit(name) for name in NAMES]
    prepared.environment = {
        "STEAD_ENDPOINT": prepared.endpoint,
        "STEAD_TOKEN_FILE": str(prepared.home / "admin.token"),
    }
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    processes: dict[str, subprocess.Popen[bytes]] = {}

    def keep_running() -> None:
        # Restart=always: whoever came too early is started again.
        for unit in units:
            if unit.name not in processes or processes[unit.name].poll() is not None:
                processes[unit.name] = start(unit, tmp_path, tmp_path / f"{unit.name}.log")

    def host_is_there() -> bool:
        keep_running()
        return prepared.stead("host", "show", "fake").returncode == 0

    with ExitStack() as stack:
        for unit in units:
            stack.callback(lambda unit=unit: stop(unit, processes[unit.name]))
        keep_running()
        eventually(host_is_there, "the cloud of the units answers")
        prepared.ok("flavor", "create", "small")
        prepared.ok("image", "import", str(image), "--name", "disk")
        words = ("create", "one", "--flavor", "small", "--image", "disk", "--wait")
        assert prepared.ask("instance", *words)["state"] == "INSTANCE_STATE_ACTIVE"
        prepared.ok("instance", "delete", "one", "--wait")
