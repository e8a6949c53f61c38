"""Every command that takes a thing takes it by name and by id; a person sees how far it is."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from services.cli.edges.commands.line import NOUNS, application
from tests.system.launched import PATIENCE_S, STEAD, Launched, eventually, launched
from tests.system.test_command import on_a_terminal

PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPrAclHQZEtbFCCP/4jWVqAlgAliRdmPOPPMQMzvYiOq me@here"
)
# Hosts, projects and operations have no name of their own.
NAMED = {"INSTANCE", "FLAVOR", "IMAGE", "KEYPAIR"}
CREATE = "instance create new --dry-run"
TAKING = [
    ("instance console", "INSTANCE", "instance console {} --log"),
    ("instance delete", "INSTANCE", "instance delete {} --dry-run"),
    ("instance evacuate", "INSTANCE", "instance evacuate {} --dry-run"),
    ("instance reboot", "INSTANCE", "instance reboot {} --dry-run"),
    ("instance pause", "INSTANCE", "instance pause {} --dry-run"),
    ("instance unpause", "INSTANCE", "instance unpause {} --dry-run"),
    ("instance suspend", "INSTANCE", "instance suspend {} --dry-run"),
    ("instance resume", "INSTANCE", "instance resume {} --dry-run"),
    ("instance show", "INSTANCE", "instance show {}"),
    ("instance start", "INSTANCE", "instance start {} --dry-run"),
    ("instance stop", "INSTANCE", "instance stop {} --dry-run"),
    ("instance update", "INSTANCE", "instance update {} --label a=b --dry-run"),
    ("instance wait", "INSTANCE", "instance wait {}"),
    ("instance watch", "INSTANCE", "instance watch {} --until ACTIVE"),
    ("instance create", "FLAVOR", CREATE + " --flavor {} --image disk"),
    ("instance create", "IMAGE", CREATE + " --flavor tiny --image {}"),
    ("instance create", "KEYPAIR", CREATE + " --flavor tiny --image disk --key {}"),
    ("operation list", "INSTANCE", "operation list --instance {}"),
    ("flavor delete", "FLAVOR", "flavor delete {} --dry-run"),
    ("flavor show", "FLAVOR", "flavor show {}"),
    ("image delete", "IMAGE", "image delete {} --dry-run"),
    ("image import", "FLAVOR", "image import DISK --name x --boot y --flavor {} --dry-run"),
    (
        "image import",
        "KEYPAIR",
        "image import DISK --name x --boot y --flavor tiny --key {} --dry-run",
    ),
    ("image show", "IMAGE", "image show {}"),
    ("keypair delete", "KEYPAIR", "keypair delete {} --dry-run"),
    ("keypair show", "KEYPAIR", "keypair show {}"),
]
# Found, and then refused for its state: nobody is looked for in vain.
REFUSED = {
    "instance start": "INVALID_INSTANCE_STATE",
    "instance unpause": "INVALID_INSTANCE_STATE",
    "instance resume": "INVALID_INSTANCE_STATE",
    "instance evacuate": "HOST_NOT_DOWN",
}
NAMES = {"INSTANCE": "web", "FLAVOR": "tiny", "IMAGE": "disk", "KEYPAIR": "laptop"}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough to be sent in many pieces."""
    file = tmp_path_factory.mktemp("image") / "disk"
    file.write_bytes(bytes(32 << 20))
    return file


@pytest.fixture(scope="module")
def cloud(disk: Path) -> Iterator[Launched]:
    """One of each; the fake hosts take their time."""
    with launched() as made:
        made.environment = {"STEAD_COMPUTE_FAKE_DELAY_S": "1"}
        made.up()
        made.ok("flavor", "create", "tiny")
        made.ok("image", "import", str(disk), "--name", "disk")
        assert made.stead("keypair", "create", "laptop", "-", typed=PUBLIC_KEY).returncode == 0
        made.ok("instance", "create", "web", "--flavor", "tiny", "--image", "disk", "--wait")
        yield made


@pytest.fixture(scope="module")
def ids(cloud: Launched) -> dict[str, str]:
    """The id of each thing that has a name."""
    return {noun: cloud.ask(noun.lower(), "show", name)["id"] for noun, name in NAMES.items()}


def _taking_a_thing() -> set[tuple[str, str]]:
    found = set()
    for noun in NOUNS:
        group: Any = typer.main.get_command(application([noun]))
        for verb, command in group.commands[noun].commands.items():
            found |= {
                (f"{noun} {verb}", str(parameter.metavar))
                for parameter in command.params
                if parameter.metavar in NAMED
            }
    return found


def test_no_command_that_takes_a_thing_is_forgotten_here() -> None:
    assert {(command, thing) for command, thing, _ in TAKING} == _taking_a_thing()


@pytest.mark.parametrize(("command", "thing", "line"), TAKING)
def test_a_thing_is_taken_by_its_name_and_by_its_id(
    cloud: Launched, ids: dict[str, str], disk: Path, command: str, thing: str, line: str
) -> None:
    for word in (NAMES[thing], ids[thing]):
        words = line.replace("DISK", str(disk)).format(word).split()
        assert words[:2] == command.split()
        ended = cloud.stead(*words, "--output", "json")
        if command in REFUSED:
            assert json.loads(ended.stderr)["reason"] == REFUSED[command]
        else:
            assert ended.returncode == 0, (word, ended.stderr)


def test_a_person_sees_how_far_an_import_is_and_then_the_phases_of_the_boot(
    cloud: Launched, disk: Path
) -> None:
    words = ("image", "import", str(disk), "--name", "shown", "--boot", "fresh")
    code, sent = on_a_terminal(cloud, *words, "--flavor", "tiny", columns=120)
    assert code == 0, sent
    sending, _, booting = sent.partition("create fresh:")
    shares = [int(share) for share in re.findall(r"sending.*?(\d+)%", sending)]
    assert shares
    assert shares == sorted(shares)
    assert shares[-1] == 100
    phases = re.findall(r"create fresh: (\w+)", "create fresh:" + booting)
    assert list(dict.fromkeys(phases))[-2:] == ["BUILDING", "DONE"]
    assert "fresh" in booting.split("DONE")[-1]


@pytest.fixture
def thoughtless(cloud: Launched) -> Iterator[Launched]:
    """Nobody chooses a host meanwhile, so that no instance can come to run."""
    thinker = cloud.pids()["scheduler-0"]
    os.kill(thinker, signal.SIGSTOP)
    try:
        yield cloud
    finally:
        os.kill(thinker, signal.SIGCONT)


MANY = ("--flavor", "tiny", "--image", "disk", "--wait", "--count")


def test_what_was_made_and_refused_is_shown_also_where_the_wait_took_too_long(
    thoughtless: Launched,
) -> None:
    late = thoughtless.stead("instance", "create", "duo", *MANY, "2", "--timeout", "0.5")
    assert (late.returncode, "WAIT_TIMED_OUT" in late.stderr) == (7, True)
    assert [name in late.stdout for name in ("duo-1", "duo-2")] == [True, True]
    mixed = thoughtless.stead("instance", "create", "duo", *MANY, "3", "--timeout", "0.5")
    assert mixed.returncode == 5
    assert "duo-3" in mixed.stdout
    for name in ("duo-1", "duo-2"):
        assert f"{name} is refused: " in mixed.stderr
        assert name not in mixed.stdout


def test_what_was_made_is_shown_also_to_who_interrupts_the_wait(thoughtless: Launched) -> None:
    waiting = subprocess.Popen(
        [STEAD, "instance", "create", "trio", *MANY, "2"],
        env=thoughtless.variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    eventually(lambda: thoughtless.stead("instance", "show", "trio-2").returncode == 0, "asked")
    waiting.send_signal(signal.SIGINT)
    shown, said = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 130
    assert [name in shown for name in ("trio-1", "trio-2")] == [True, True]
    assert "stead operation list" in said
