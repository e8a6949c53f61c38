"""The command `stead` in the hands of a person and of a program: words, exit codes, endings."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.launched import PATIENCE_S, STEAD, Launched, eventually, launched

BUILD_S = 4
UNKNOWN_ID = "01a2048d-a56b-7140-86a6-53fad6ce83b7"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """A fake fleet that takes its time, with two flavors, an image and an instance."""
    disk = tmp_path_factory.mktemp("image") / "disk"
    disk.write_bytes(bytes(1 << 20))
    with launched() as made:
        made.environment = {"STEAD_COMPUTE_FAKE_DELAY_S": str(BUILD_S)}
        made.up()
        made.ok("flavor", "create", "tiny")
        made.ok("flavor", "create", "giant", "--vcpus", "1000", "--memory-mib", "900000")
        made.ok("image", "import", str(disk), "--name", "disk")
        made.ok("instance", "create", "web", "--flavor", "tiny", "--image", "disk", "--wait")
        yield made


def create(name: str, *more: str, flavor: str = "tiny", image: str = "disk") -> list[str]:
    """The words that ask for an instance."""
    return ["instance", "create", name, "--flavor", flavor, "--image", image, *more]


@pytest.mark.parametrize(
    ("words", "code", "reason", "said"),
    [
        (["bogus"], 2, "INVALID_FIELD", "`stead --help`"),
        (["instance", "bogus"], 2, "INVALID_FIELD", "`stead instance --help`"),
        (["instance", "list", "--bogus"], 2, "INVALID_FIELD", "`stead instance list --help`"),
        (["instance", "create", "x"], 2, "INVALID_FIELD", "--flavor"),
        (["operation", "wait", UNKNOWN_ID, "--timeout", "0"], 2, "INVALID_FIELD", "--timeout"),
        (["instance", "show", "nobody"], 3, "INSTANCE_NOT_FOUND", "nobody"),
        (["instance", "show", UNKNOWN_ID], 3, "INSTANCE_NOT_FOUND", UNKNOWN_ID),
        (["instance", "update", "web"], 2, "INVALID_FIELD", "--name"),
        (["instance", "update", "web", "--remove-label", "x"], 2, "INVALID_FIELD", '"x"'),
        (["instance", "update", "web", "--name", "y", "--etag", "z"], 5, "ETAG_MISMATCH", ""),
        (["instance", "start", "web"], 5, "INVALID_INSTANCE_STATE", "ACTIVE"),
        (["instance", "stop", "nobody"], 3, "INSTANCE_NOT_FOUND", "nobody"),
        (["instance", "stop", "web", "--grace", "7200"], 2, "INVALID_FIELD", "--grace"),
        (["instance", "reboot", "web", "--hard", "--grace", "1"], 2, "INVALID_FIELD", "--hard"),
        (["instance", "wait", "web", "--until", "happy"], 2, "INVALID_FIELD", "ACTIVE"),
        (
            ["instance", "wait", "web", "--until", "STOPPED", "--timeout", "0.5"],
            7,
            "WAIT_TIMED_OUT",
            "in time",
        ),
        (["instance", "list", "--filter", "color = x"], 2, "FILTER_INVALID", "color"),
        (["instance", "list", "--order-by", "color"], 2, "ORDER_INVALID", "create_time"),
        (["instance", "watch", "--resume-token", "x"], 2, "RESUME_TOKEN_INVALID", "token"),
        (
            ["instance", "console", "web", "--read-only", "--take-over"],
            2,
            "INVALID_FIELD",
            "keyboard",
        ),
        (["instance", "console", "web", "--from", "99999"], 2, "CONSOLE_OFFSET_GONE", ""),
        (["operation", "watch", UNKNOWN_ID], 3, "OPERATION_NOT_FOUND", UNKNOWN_ID),
        (["operation", "cancel", UNKNOWN_ID], 3, "OPERATION_NOT_FOUND", UNKNOWN_ID),
        (["operation", "watch", UNKNOWN_ID, "--all-projects"], 2, "INVALID_FIELD", "one"),
        (["keypair", "show", "none"], 3, "KEY_PAIR_NOT_FOUND", "none"),
        (["keypair", "create", "x", "/nowhere"], 2, "FILE_UNREADABLE", "/nowhere"),
        (["keypair", "create", "x", "-"], 2, "PUBLIC_KEY_INVALID", ".pub"),
        (["project", "show", "none"], 3, "PROJECT_NOT_FOUND", "none"),
        (["project", "create", "No"], 2, "INVALID_FIELD", ""),
        (["project", "update", "none", "--name", "x"], 3, "PROJECT_NOT_FOUND", "none"),
        (["quota", "set"], 2, "INVALID_FIELD", "--instances"),
        (["quota", "set", "--vcpus", "many"], 2, "INVALID_FIELD", "many"),
        (["host", "disable", "fake"], 2, "INVALID_FIELD", "--reason"),
        (["host", "disable", "none", "--reason", "x"], 3, "HOST_NOT_FOUND", "none"),
        (
            ["image", "import", "/nowhere", "--name", "x", "--boot", "y"],
            2,
            "INVALID_FIELD",
            "--flavor",
        ),
        (create("x", "--key", "none"), 2, "KEY_PAIR_NOT_FOUND", "none"),
        (create("x", "--count", "0"), 2, "INVALID_FIELD", "--count"),
        (["instance", "watch", "--until", "ACTIVE"], 2, "INVALID_FIELD", "needs an instance"),
        (["instance", "watch", "web", "--until", "happy"], 2, "INVALID_FIELD", "ACTIVE"),
        (["operation", "show", UNKNOWN_ID], 3, "OPERATION_NOT_FOUND", UNKNOWN_ID),
        (["flavor", "show", "none"], 3, "FLAVOR_NOT_FOUND", "none"),
        (["flavor", "create", "tiny"], 5, "NAME_TAKEN", "tiny"),
        (["flavor", "create", "x", "--vcpus", "99999999999"], 2, "INVALID_FIELD", "out of range"),
        (["image", "show", "none"], 3, "IMAGE_NOT_FOUND", "none"),
        (["image", "import", "/nowhere", "--name", "x"], 2, "FILE_UNREADABLE", "/nowhere"),
        (["image", "import", "/tmp", "--name", "x"], 2, "FILE_UNREADABLE", "directory"),
        (["host", "show", "none"], 3, "HOST_NOT_FOUND", "none"),
        (["token", "create", "--project", "p", "--role", "king"], 2, "INVALID_FIELD", "reader"),
        (["token", "create", "--project", "p", "--for", "1w"], 2, "INVALID_FIELD", "30d"),
        (create("x", flavor="none"), 2, "FLAVOR_NOT_FOUND", "none"),
        (create("x", image="none"), 2, "IMAGE_NOT_FOUND", "none"),
        (create("web"), 5, "NAME_TAKEN", "web"),
        (create("x", "--label", "=y"), 2, "INVALID_FIELD", '"=y" is not KEY=VALUE'),
        (create("x", "--ssh-key", "/nowhere"), 2, "FILE_UNREADABLE", "/nowhere"),
        (create("\x1b[31mred"), 2, "INVALID_FIELD", "name"),
        (create("big", "--wait", flavor="giant"), 6, "NO_VALID_HOST", "capacity"),
    ],
)
def test_a_mistake_has_its_exit_code_and_its_reason_alone_on_standard_error(
    cloud: Launched, words: list[str], code: int, reason: str, said: str
) -> None:
    asked = cloud.stead(*words, "--output", "json")
    assert (asked.returncode, asked.stdout) == (code, "")
    # Standard error holds the error and nothing else, also after --wait.
    error = json.loads(asked.stderr)
    assert set(error) == {"code", "reason", "message", "metadata", "field_violations"}
    assert error["reason"] == reason
    assert said in error["message"]


def test_a_person_reads_what_was_wrong_and_what_to_do(cloud: Launched) -> None:
    ended = cloud.stead("instance", "show", "nobody")
    assert ended.stderr.splitlines() == [
        'stead: there is no instance "nobody" (INSTANCE_NOT_FOUND)',
        "  see what there is: stead instance list",
    ]
    ended = cloud.stead(*create("\x1b[31mred"))
    assert ended.returncode == 2
    assert "\x1b" not in ended.stderr


@pytest.mark.parametrize("words", [[], ["instance"], ["operation"], ["flavor"], ["image"]])
def test_without_a_verb_it_teaches_and_ends_with_2(cloud: Launched, words: list[str]) -> None:
    ended = cloud.stead(*words)
    assert ended.returncode == 2
    assert ended.stderr.startswith("Usage: stead")
    assert "INVALID_FIELD" not in ended.stderr


def test_an_instance_is_found_by_its_id_as_by_its_name(cloud: Launched) -> None:
    by_name = cloud.ask("instance", "show", "web")
    assert cloud.ask("instance", "show", by_name["id"]) == by_name
    assert cloud.ask("instance", "show", by_name["id"].upper()) == by_name


@pytest.mark.parametrize(
    ("endpoint", "code", "reason"),
    [
        ("nowhere", 2, "INVALID_FIELD"),
        ("http://127.0.0.1:8774", 2, "INVALID_FIELD"),
        ("unix:/nowhere", 7, "PEER_UNREACHABLE"),
    ],
)
def test_a_wrong_endpoint_is_told(cloud: Launched, endpoint: str, code: int, reason: str) -> None:
    other = Launched(cloud.home, cloud.port, {"STEAD_ENDPOINT": endpoint})
    refused, error = other.refused("instance", "list")
    assert (refused, error["reason"]) == (code, reason)
    assert endpoint in error["message"]


def test_a_file_that_holds_no_token_is_told(cloud: Launched, tmp_path: Path) -> None:
    told = {}
    contents = {"none": None, "empty": b"", "words": b"not a token", "bytes": bytes(range(256))}
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        other = Launched(cloud.home, cloud.port, {"STEAD_TOKEN_FILE": str(tmp_path / name)})
        code, error = other.refused("instance", "list")
        assert (code, error["code"]) == (4, "UNAUTHENTICATED")
        assert str(tmp_path / name) in error["message"]
        told[name] = error["reason"]
    assert told == dict.fromkeys(contents, "TOKEN_INVALID") | {"none": "TOKEN_MISSING"}


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["instance list", "operation list --output json", "--help"])
def test_whoever_stops_reading_is_no_error(cloud: Launched, words: str, unbuffered: str) -> None:
    ended = subprocess.run(
        ["bash", "-c", f"{STEAD} {words} | true; exit ${{PIPESTATUS[0]}}"],
        env={**cloud.variables(), "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_answer_that_cannot_be_written_is_an_error(cloud: Launched) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [STEAD, "instance", "list"],
            env=cloud.variables(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert ended.returncode == 6
    assert "STORAGE_FULL" in ended.stderr
    assert "Exception" not in ended.stderr


def test_interrupted_while_waiting_it_says_how_to_go_on(cloud: Launched) -> None:
    waiting = subprocess.Popen(
        [STEAD, *create("slow", "--wait")], env=cloud.variables(), stderr=subprocess.PIPE, text=True
    )
    eventually(lambda: cloud.stead("instance", "show", "slow").returncode == 0, "asked for")
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 130
    (operation,) = re.findall(r"stead operation wait (\S+)", said)
    assert cloud.ask("operation", "wait", operation)["state"] == "OPERATION_STATE_DONE"


def test_a_wait_that_takes_too_long_ends_with_7_and_the_work_goes_on(cloud: Launched) -> None:
    code, error = cloud.refused(*create("late", "--wait", "--timeout", "0.5"))
    assert (code, error["reason"]) == (7, "WAIT_TIMED_OUT")
    cloud.ok("operation", "wait", error["metadata"]["operation_id"])
    assert cloud.ask("instance", "show", "late")["state"] == "INSTANCE_STATE_ACTIVE"


def test_a_watch_of_nobody_says_that_it_waits_and_ends_when_interrupted(cloud: Launched) -> None:
    watching = subprocess.Popen(
        [STEAD, "instance", "watch", "nobody"],
        env=cloud.variables(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stderr is not None
    assert 'there is no instance "nobody" yet' in watching.stderr.readline()
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 130


def on_a_terminal(cloud: Launched, *words: str, columns: int = 80) -> tuple[int, str]:
    """Exit code and all that a terminal of that width was sent."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(STEAD, [str(STEAD), *words], cloud.variables())
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    sent = b""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        sent += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sent.decode()


def test_the_live_line_stays_one_line_on_a_narrow_terminal(cloud: Launched) -> None:
    name = "a-name-of-quite-some-length"
    code, sent = on_a_terminal(cloud, *create(name, "--wait"), columns=30)
    assert code == 0
    *live, last = sent.split("\r\x1b[K")
    assert len(live) > 2
    assert all("\n" not in line and len(line) < 30 for line in live)
    assert len(last.splitlines()[0]) < 30


def test_help_is_there_for_every_command_and_names_its_arguments(cloud: Launched) -> None:
    words = cloud.ok("instance", "create", "--help")
    for said in ("--flavor FLAVOR", "--label KEY=VALUE", "--timeout SECONDS", "Examples:"):
        assert said in words
    assert "..." not in cloud.ok("--help").split("Commands:")[1]


def test_status_of_a_home_without_a_cloud_says_how_to_start_one(
    cloud: Launched, tmp_path: Path
) -> None:
    ended = Launched(tmp_path).stead("status")
    assert ended.returncode == 7
    assert "stead up --detach" in ended.stdout


def test_a_home_that_can_be_no_folder_is_refused() -> None:
    # Short enough for the sockets of a home, as pytest's own folders are not.
    with tempfile.TemporaryDirectory(prefix="stead-") as folder:
        file = Path(folder) / "file"
        file.touch()
        ended = Launched(file).stead("up", "--driver", "fake")
    assert ended.returncode == 2
    assert "(HOME_UNUSABLE)" in ended.stderr
