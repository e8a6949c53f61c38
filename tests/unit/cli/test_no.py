"""Each "no" that only the command knows, by its reason."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.edges import daemon, keys
from services.cli.edges.commands import line as command
from services.cli.edges.engines import postgres
from services.cli.edges.homes import HomeStore
from services.cli.flows.down import take_down
from services.cli.flows.up import join_running
from services.cli.logic.claims import ADMIN, claims_of
from services.cli.logic.home import Home
from services.cli.logic.options import Options
from services.cli.logic.refusal import Exit, Refusal, refusal_of_operation
from services.cli.logic.state import CloudState, Phase
from services.domain.errors import Conflict, Denied, Unauthenticated, Unavailable
from tests.warp import run_warped

NOBODY = 65534


class Locked:
    """A home that another supervisor has locked."""

    def __init__(self, state: CloudState | None) -> None:
        self.state = state

    def state_read(self) -> CloudState | None:
        return self.state

    def is_locked(self) -> bool:
        return True

    def started(self, pid: int) -> int | None:
        return 7


def home(folder: Path) -> Home:
    return Home(folder / "h")


def test_a_home_of_another_user_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "h"
    folder.mkdir()
    assert os.geteuid() == 0, "give the folder to another user: run the tests as root"
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(Denied) as refused:
        HomeStore(home(tmp_path), tell=lambda line: None).make_folders()
    assert refused.value.reason == "HOME_NOT_YOURS"


def test_a_home_whose_note_is_spoilt_is_said_to_be_broken(tmp_path: Path) -> None:
    store = HomeStore(home(tmp_path), tell=lambda line: None)
    store.open()
    home(tmp_path).cloud_file.write_text("{")
    with pytest.raises(Unavailable) as refused:
        store.open()
    assert refused.value.reason == "HOME_BROKEN"


def test_a_token_needs_the_homes_own_key(tmp_path: Path) -> None:
    claims = claims_of(ADMIN, cloud_id="0123456789ab", window_s=(0, 1))
    with pytest.raises(Unauthenticated) as refused:
        keys.sign(home(tmp_path), claims)
    assert refused.value.reason == "SIGNING_KEY_MISSING"


def test_a_running_cloud_with_other_settings_is_not_joined() -> None:
    state = CloudState(1, 7, Phase.UP, Options(drivers=("fake",)))
    with pytest.raises(Conflict) as refused:
        run_warped(join_running(Locked(state), Locked(state), {"fake_hosts": 9}))
    assert refused.value.reason == "HOME_IN_USE"


def test_a_start_that_neither_ends_nor_comes_up_is_not_waited_for_forever() -> None:
    with pytest.raises(Unavailable) as refused:
        run_warped(join_running(Locked(None), Locked(None), {}))
    assert refused.value.reason == "START_TIMED_OUT"


def test_a_supervisor_that_has_said_nothing_yet_cannot_be_ended() -> None:
    with pytest.raises(Unavailable) as refused:
        run_warped(take_down(Locked(None), Locked(None)))
    assert refused.value.reason == "SUPERVISOR_UNKNOWN"


def test_a_supervisor_that_fails_tells_its_starter(
    capfd: pytest.CaptureFixture[str],
) -> None:
    reading, writing = os.pipe()

    def work(starter: daemon.Starter) -> None:
        raise ZeroDivisionError

    assert daemon._work(work, daemon.Starter(os.fdopen(writing, "w"))) == 1
    with os.fdopen(reading) as pipe, pytest.raises(Refusal) as refused:
        daemon._listen(pipe, Path("log"), lambda line: None)
    assert (refused.value.reason, refused.value.code) == ("SUPERVISOR_FAILED", "INTERNAL")
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        (errno.EACCES, "PERMISSION_DENIED", "SYSTEM_REFUSED"),
        (errno.ENOSPC, "RESOURCE_EXHAUSTED", "STORAGE_FULL"),
        (errno.EMFILE, "INTERNAL", "SYSTEM_REFUSED"),
    ],
)
def test_what_the_system_refuses_keeps_its_words(number: int, code: str, reason: str) -> None:
    refusal = command._of_the_system(OSError(number, os.strerror(number), "/x"))
    assert (refusal.code, refusal.reason) == (code, reason)
    assert os.strerror(number) in refusal.message


def test_an_operation_that_ended_without_a_word_has_a_reason_too() -> None:
    refusal = refusal_of_operation({"state": "OPERATION_STATE_FAILED"}, code="INTERNAL")
    assert (refusal.reason, refusal.exit_code) == ("OPERATION_FAILED", Exit.FAILED)


def test_a_missing_engine_is_named_with_what_installs_it(tmp_path: Path) -> None:
    # A Python beside which there is no nats-server, and a PATH without one.
    (tmp_path / "bin").mkdir()
    shutil.copy(sys.executable, tmp_path / "bin" / "python")
    code = (
        "import sys; sys.path[:] = PATH\n"
        "from services.cli.edges.engines import nats\n"
        "from services.domain.errors import CloudError\n"
        "try: nats.nats_server()\n"
        "except CloudError as error: print(error.reason)\n"
    ).replace("PATH", json.dumps(sys.path))
    ended = subprocess.run(
        [str(tmp_path / "bin" / "python"), "-c", code],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stdout.strip() == "ENGINE_MISSING", ended.stderr


def test_an_engine_that_fails_is_quoted() -> None:
    with pytest.raises(Unavailable) as refused:
        postgres._run(["sh", "-c", "echo no room >&2; exit 1"], "")
    assert refused.value.reason == "ENGINE_FAILED"
    assert "no room" in refused.value.message
