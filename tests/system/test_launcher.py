"""What a newcomer trips over: `stead up`, `down` and `status`, on real processes and fake hosts."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.edges.processes import start_ticks
from tests import engines
from tests.system.launched import PATIENCE_S, STEAD, Launched, eventually, launched

SERVICES = {"api", "scheduler", "conductor", "compute", "nats", "postgres"}


@pytest.fixture(scope="module")
def running() -> Iterator[Launched]:
    with launched() as cloud:
        cloud.up()
        yield cloud


@pytest.fixture
def fresh() -> Iterator[Launched]:
    with launched() as cloud:
        yield cloud


def _gone(pids: list[int]) -> bool:
    return all(start_ticks(pid) is None for pid in pids)


def test_status_has_the_promised_shape(running: Launched) -> None:
    status = running.ask("status")
    assert status["healthy"] is True
    assert status["home"] == str(running.home)
    assert status["endpoint"] == running.endpoint
    assert {service["name"] for service in status["services"]} == SERVICES
    keys = {"name", "replica", "pid", "state", "endpoint", "admin_endpoint", "restarts"}
    assert all(set(service) == keys for service in status["services"])
    assert {service["state"] for service in status["services"]} == {"running"}


def test_the_home_is_closed_to_others_and_no_secret_stands_in_argv(running: Launched) -> None:
    assert stat.S_IMODE(running.home.stat().st_mode) == 0o700
    private = ("admin.token", "keys/token.key", "keys/page.key", "run/nats.credential")
    for name in (*private, "run/nats.conf", "run/state.json"):
        assert stat.S_IMODE((running.home / name).stat().st_mode) == 0o600, name
    secrets = [(running.home / name).read_text().strip().split(":")[-1] for name in private]
    for pid in (running.supervisor(), *running.pids().values()):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert not any(secret in words for secret in secrets), words


def test_up_twice_says_that_it_runs_and_changes_nothing(running: Launched) -> None:
    before = running.state()
    ended = running.stead("up", "--detach")
    assert ended.returncode == 0
    assert "already up" in ended.stderr
    assert running.endpoint in ended.stderr
    assert running.stead("up").returncode == 0
    assert running.state() == before


def test_up_with_other_flags_names_the_process_and_the_flag(running: Launched) -> None:
    ended = running.stead("up", "--detach", "--driver", "qemu", "--listen", running.endpoint)
    assert ended.returncode == 5
    assert f"supervisor pid {running.supervisor()}" in ended.stderr
    assert "--driver" in ended.stderr
    assert "--listen" not in ended.stderr


def test_a_taken_port_is_named_with_who_holds_it_and_the_flag(fresh: Launched) -> None:
    with socket.create_server(("127.0.0.1", fresh.port)):
        ended = fresh.stead("up", "--detach", "--driver", "fake", "--listen", fresh.endpoint)
    assert ended.returncode == 5
    for said in (str(fresh.port), f"pid {os.getpid()}", "--listen", "PORT_TAKEN"):
        assert said in ended.stderr
    assert not (fresh.home / "postgres").exists()


def test_two_homes_are_two_clouds(running: Launched, fresh: Launched) -> None:
    running.ok("flavor", "create", "of-the-first")
    taken = fresh.stead("up", "--detach", "--driver", "fake", "--listen", running.endpoint)
    assert taken.returncode == 5
    assert f"pid {running.pids()['api-0']}" in taken.stderr
    fresh.up()
    assert fresh.ask("flavor", "list") == []
    fresh.environment = {"STEAD_TOKEN_FILE": str(running.home / "admin.token")}
    code, error = fresh.refused("flavor", "list")
    assert (code, error["reason"]) == (4, "TOKEN_INVALID")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_whatever_service_is_killed_comes_back(running: Launched, name: str) -> None:
    label = f"{name}-0"
    killed = running.pids()[label]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: running.pids().get(label, killed) != killed, f"{name} started again")
    eventually(running.healthy, f"healthy after the death of {name}")
    restarts = {s["name"]: s["restarts"] for s in running.ask("status")["services"]}
    assert restarts[name] == 1


def test_up_after_the_supervisor_was_killed_ends_what_it_left(fresh: Launched) -> None:
    fresh.up()
    fresh.ok("flavor", "create", "kept")
    left = list(fresh.pids().values())
    os.kill(fresh.supervisor(), signal.SIGKILL)
    eventually(lambda: fresh.stead("status").returncode == 7, "status tells of it")
    assert not _gone(left)
    assert fresh.ask("flavor", "list") != []
    said = fresh.up()
    assert "ended what an earlier run had left" in said
    assert _gone(left)
    assert [flavor["name"] for flavor in fresh.ask("flavor", "list")] == ["kept"]


def test_up_after_everything_was_killed_at_once(fresh: Launched) -> None:
    fresh.up()
    fresh.ok("flavor", "create", "kept")
    everything = [fresh.supervisor(), *fresh.pids().values()]
    for pid in everything:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: _gone(everything), "all killed")
    assert (fresh.home / "postgres" / "postmaster.pid").exists()
    fresh.up()
    assert [flavor["name"] for flavor in fresh.ask("flavor", "list")] == ["kept"]


def test_a_pid_that_was_given_to_another_process_is_left_alone(fresh: Launched) -> None:
    fresh.up()
    fresh.ok("down")
    with subprocess.Popen(["sleep", "600"]) as innocent:
        state = fresh.state()
        state["phase"] = "up"
        for seat in state["seats"]:
            seat |= {"pid": innocent.pid, "started": 1}
        (fresh.home / "run" / "state.json").write_text(json.dumps(state))
        lines = [str(innocent.pid), str(fresh.home / "postgres"), "1", "5432", "", "", "", ""]
        (fresh.home / "postgres" / "postmaster.pid").write_text("\n".join(lines))
        (fresh.home / "run" / ".s.PGSQL.5432.lock").write_text("\n".join(lines))
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(fresh.home / "run" / "conductor.sock"))
        try:
            fresh.up()
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_down_after_the_supervisor_was_killed_ends_what_it_left(fresh: Launched) -> None:
    fresh.up()
    left = list(fresh.pids().values())
    os.kill(fresh.supervisor(), signal.SIGKILL)
    eventually(lambda: start_ticks(fresh.supervisor()) is None, "killed")
    fresh.ok("down")
    assert _gone(left)


def test_down_ends_the_services_leaves_guests_and_counts_them(
    fresh: Launched, tmp_path: Path
) -> None:
    fresh.up()
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    fresh.ok("image", "import", str(image), "--name", "disk")
    fresh.ok("flavor", "create", "small")
    for name in ("one", "two"):
        words = ("create", name, "--flavor", "small", "--image", "disk", "--wait")
        assert fresh.ask("instance", *words)["state"] == "INSTANCE_STATE_ACTIVE"
    ran = [fresh.supervisor(), *fresh.pids().values()]
    ended = fresh.stead("down")
    assert ended.returncode == 0
    assert "2 guests keep running" in ended.stderr
    assert _gone(ran)
    fresh.up()
    assert {i["power"] for i in fresh.ask("instance", "list")} == {"INSTANCE_POWER_RUNNING"}
    ended = fresh.stead("down", "--guests")
    assert "deleted 2 instances" in ended.stderr
    fresh.up()
    assert fresh.ask("instance", "list") == []


def test_down_where_nothing_runs_is_done(fresh: Launched) -> None:
    assert fresh.stead("down").returncode == 0
    assert fresh.stead("down", "--guests").returncode == 0
    assert fresh.refused("instance", "list")[1]["reason"] in ("TOKEN_MISSING", "CLOUD_NOT_RUNNING")
    assert fresh.stead("status").returncode == 7


def test_a_home_of_a_newer_stead_is_refused_and_not_changed(fresh: Launched) -> None:
    fresh.home.mkdir(mode=0o700)
    newer = json.dumps({"cloud_id": "0123456789ab", "format": 99})
    (fresh.home / "cloud.json").write_text(newer)
    ended = fresh.stead("up", "--detach", "--driver", "fake", "--listen", fresh.endpoint)
    assert ended.returncode == 2
    assert "HOME_NEWER" in ended.stderr
    assert (fresh.home / "cloud.json").read_text() == newer
    assert not (fresh.home / "postgres").exists()


def test_a_home_of_an_older_stead_is_migrated_and_that_is_said(fresh: Launched) -> None:
    fresh.home.mkdir(mode=0o700)
    (fresh.home / "cloud.json").write_text(json.dumps({"cloud_id": "0123456789ab"}))
    assert "migrated the home" in fresh.up()
    fresh.ok("down")
    assert "migrated" not in fresh.up()
    written = json.loads((fresh.home / "cloud.json").read_text())
    assert written == {"cloud_id": "0123456789ab", "format": 1}


def test_a_home_too_long_for_sockets_is_refused_with_its_length(fresh: Launched) -> None:
    fresh.home = fresh.home / ("x" * 100)
    ended = fresh.stead("up", "--detach", "--driver", "fake")
    assert ended.returncode == 2
    assert "HOME_PATH_TOO_LONG" in ended.stderr
    assert str(len(str(fresh.home))) in ended.stderr
    assert not fresh.home.exists()


def test_a_folder_of_other_things_is_not_made_a_home(fresh: Launched) -> None:
    fresh.home.mkdir(mode=0o755)
    (fresh.home / "thesis.tex").touch()
    ended = fresh.stead("up", "--detach", "--driver", "fake", "--listen", fresh.endpoint)
    assert ended.returncode == 2
    assert "HOME_NOT_EMPTY" in ended.stderr
    assert [path.name for path in fresh.home.iterdir()] == ["thesis.tex"]
    assert stat.S_IMODE(fresh.home.stat().st_mode) == 0o755


def test_a_set_up_that_was_interrupted_half_way_is_begun_anew(fresh: Launched) -> None:
    half = fresh.home / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    fresh.up()
    assert not half.exists()


def test_interrupted_while_starting_it_leaves_nothing_and_starts_well_again(
    fresh: Launched,
) -> None:
    for delay_s in (0.3, 0.8, 1.5):
        words = [STEAD, "up", "--detach", "--driver", "fake", "--listen", fresh.endpoint]
        with subprocess.Popen(words, env=fresh.variables(), stderr=subprocess.PIPE) as starting:
            time.sleep(delay_s)
            starting.send_signal(signal.SIGINT)
            starting.communicate(timeout=PATIENCE_S)
        assert starting.returncode in (130, 0)
    fresh.up()
    assert fresh.healthy()


def test_in_the_foreground_it_ends_with_its_services_on_a_signal(fresh: Launched) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        words = [STEAD, "up", "--driver", "fake", "--listen", fresh.endpoint]
        with subprocess.Popen(words, env=fresh.variables(), stderr=subprocess.PIPE) as cloud:
            eventually(fresh.healthy, "up in the foreground")
            ran = list(fresh.pids().values())
            cloud.send_signal(number)
            cloud.communicate(timeout=PATIENCE_S)
        assert cloud.returncode == code
        assert _gone(ran)


def test_a_database_and_a_bus_of_ones_own_are_used_and_not_started(
    fresh: Launched, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        engines.postgres(fresh.home.parent / "pg") as postgres,
        engines.nats_server(fresh.home.parent / "nats") as nats,
    ):
        user = nats.credential_file.read_text().strip()
        url = nats.url.replace("nats://", f"nats://{user}@")
        fresh.environment = {"STEAD_NATS_URL": url}
        fresh.up("--postgres", postgres.url())
        names = {service["name"] for service in fresh.ask("status")["services"]}
        assert names == SERVICES - {"postgres", "nats"}
        fresh.ok("flavor", "create", "kept-there")
        assert "kept-there" in postgres.sql("SELECT * FROM catalog")
        fresh.ok("down")


def test_a_token_of_ones_own_gives_what_it_says_and_no_more(
    running: Launched, tmp_path: Path
) -> None:
    made = running.ask("token", "create", "--project", "web", "--role", "reader", "--for", "5m")
    (tmp_path / "token").write_text(made["token"])
    assert made["roles"] == ["reader"]
    reader = Launched(running.home, running.port, {"STEAD_TOKEN_FILE": str(tmp_path / "token")})
    assert reader.ask("instance", "list") == []
    assert reader.refused("host", "list")[0] == 4
    assert reader.refused("flavor", "create", "x")[1]["reason"] == "ROLE_MISSING"
    assert running.refused("token", "create", "--project", "Web")[0] == 2


def test_a_cloud_that_does_not_run_is_said_so_at_once(fresh: Launched) -> None:
    fresh.up()
    fresh.ok("down")
    began = time.monotonic()
    code, error = fresh.refused("instance", "list")
    assert (code, error["reason"]) == (7, "CLOUD_NOT_RUNNING")
    assert time.monotonic() - began < 10


def test_help_answers_quickly_and_teaches(fresh: Launched) -> None:
    began = time.monotonic()
    helped = fresh.ok("--help")
    assert time.monotonic() - began < 5
    for word in ("stead up --detach", "STEAD_HOME", "Exit codes"):
        assert word in helped
