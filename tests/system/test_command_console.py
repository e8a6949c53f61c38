"""`stead instance console` in the hands of a person at a terminal and of a program at a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.system.launched import PATIENCE_S, STEAD, Launched, eventually, launched

LEAVE = b"\x1d"
INTERRUPT = b"\x03"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """Two replicas, and an instance whose fake guest writes back what is typed."""
    disk = tmp_path_factory.mktemp("image") / "disk"
    disk.write_bytes(bytes(1 << 20))
    with launched() as made:
        made.up("--api-replicas", "2")
        made.ok("flavor", "create", "tiny")
        made.ok("image", "import", str(disk), "--name", "disk")
        made.ok("instance", "create", "web", "--flavor", "tiny", "--image", "disk", "--wait")
        yield made


class Terminal:
    """A command with a terminal of its own, as a person sees it."""

    def __init__(self, cloud: Launched, *words: str) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execve(STEAD, [str(STEAD), *words], cloud.variables())
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.set_blocking(self._master, False)
        self._sent = b""

    def screen(self) -> str:
        """All that was sent so far."""
        try:
            while part := os.read(self._master, 65536):
                self._sent += part
        except OSError:
            # Nothing new, or the other end is closed.
            pass
        return self._sent.decode(errors="replace")

    def shows(self, words: str) -> None:
        """Waits until it stands there."""
        eventually(lambda: words in self.screen(), f"the terminal shows {words!r}")

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def is_raw(self) -> bool:
        """Whether keys go through as they are."""
        return not termios.tcgetattr(self._master)[3] & (termios.ICANON | termios.ECHO)

    def ended(self) -> int:
        """Its exit code."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            self.screen()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("it does not end")


@pytest.fixture
def terminal(cloud: Launched) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals; those that are left at the end are closed."""
    opened: list[Terminal] = []

    def opening(*words: str) -> Terminal:
        opened.append(Terminal(cloud, "instance", "console", *words))
        return opened[-1]

    yield opening
    for one in opened:
        try:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def await_back(cloud: Launched, label: str, killed: int) -> None:
    """Waits until another process has its place, and all is well."""
    eventually(
        lambda: cloud.pids().get(label, killed) != killed and cloud.healthy(), f"{label} is back"
    )


def test_a_person_types_reads_and_leaves_by_one_key(
    terminal: Callable[..., Terminal],
) -> None:
    console = terminal("web")
    console.shows("the console of web; Ctrl-] leaves")
    assert console.is_raw()
    console.type(b"typed by hand\r")
    console.shows("typed by hand")
    # What ends other programs is the guest's here.
    console.type(INTERRUPT)
    console.type(b"still here\r")
    console.shows("still here")
    console.type(LEAVE)
    assert console.ended() == 0
    assert "left the console of web" in console.screen()


def test_the_terminal_is_as_before_whatever_ended_the_console(cloud: Launched) -> None:
    words = f"{STEAD} instance console web; stty -a | grep -o -- '-\\?icanon'; echo over"
    for ending in ("key", "signal"):
        pid, master = pty.fork()
        if pid == 0:
            os.execve("/bin/bash", ["bash", "-c", words], cloud.variables())
        sent = b""
        try:
            while b"Ctrl-]" not in sent:
                sent += os.read(master, 4096)
            if ending == "key":
                os.write(master, LEAVE)
            else:
                (child,) = psutil.Process(pid).children()
                child.terminate()
            while b"over" not in sent:
                sent += os.read(master, 4096)
        finally:
            os.close(master)
            os.waitpid(pid, 0)
        assert b"icanon" in sent, ending
        assert b"-icanon" not in sent, ending


def test_many_read_and_one_types(cloud: Launched, terminal: Callable[..., Terminal]) -> None:
    writer = terminal("web")
    writer.shows("the console of web")
    reader = terminal("web", "--read-only")
    reader.shows("the console of web")
    writer.type(b"for both\r")
    writer.shows("for both")
    reader.shows("for both")
    reader.type(b"not heard\r")
    second = cloud.stead("instance", "console", "web", typed="me too\n")
    assert second.returncode == 5
    assert "CONSOLE_IN_USE" in second.stderr
    assert "--take-over" in second.stderr
    writer.type(b"marker\r")
    writer.shows("marker")
    assert "not heard" not in writer.screen()
    reader.type(INTERRUPT)
    assert reader.ended() == 0
    writer.type(LEAVE)
    assert writer.ended() == 0


def test_the_keyboard_is_taken_over_and_the_first_is_told(
    terminal: Callable[..., Terminal],
) -> None:
    first = terminal("web")
    first.shows("the console of web")
    second = terminal("web", "--take-over")
    second.shows("the console of web")
    first.shows("CONSOLE_TAKEN_OVER")
    assert first.ended() == 5
    second.type(b"mine now\r")
    second.shows("mine now")
    second.type(LEAVE)
    assert second.ended() == 0


def test_a_lost_connection_is_opened_again_and_no_byte_is_lost(
    cloud: Launched, terminal: Callable[..., Terminal]
) -> None:
    console = terminal("web", "--from", "0")
    console.shows("STEAD-GUEST name=web")
    for number, label in enumerate(("api-0", "api-1", "api-0")):
        killed = cloud.pids()[label]
        os.kill(killed, signal.SIGKILL)
        await_back(cloud, label, killed)
        console.type(f"line {number}\r".encode())
        console.shows(f"line {number}")
    console.type(LEAVE)
    assert console.ended() == 0
    screen = console.screen()
    assert "connected again; nothing the guest wrote was lost" in screen
    assert screen.count("STEAD-GUEST name=web") == 1


def test_a_pipe_is_typed_and_answered_and_ends_after_silence(cloud: Launched) -> None:
    typed = "".join(f"{number} {'x' * 60}\n" for number in range(500))
    ended = cloud.stead("instance", "console", "web", "--linger", "1", typed=typed)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.replace("\r", "") == typed
    lines = cloud.stead(
        "instance", "console", "web", "--linger", "1", "--output", "json", typed="one\n"
    ).stdout.splitlines()
    opened, *outputs = (json.loads(line) for line in lines)
    assert int(opened["opened"]["offset"]) > len(typed)
    end = int(outputs[-1]["output"]["end_offset"])
    assert end >= int(opened["opened"]["offset"]) + len("one\n")


def test_a_log_is_followed_from_any_byte_until_interrupted(cloud: Launched) -> None:
    with subprocess.Popen(
        [STEAD, "instance", "console", "web", "--read-only", "--from", "6"],
        env=cloud.variables(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    ) as following:  # fmt: skip
        assert following.stdout is not None
        assert following.stdout.readline().startswith(b"GUEST name=web")
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 130
    shown = cloud.ok("instance", "console", "web", "--log")
    assert shown.splitlines()


def test_a_console_that_is_not_there_is_told(cloud: Launched) -> None:
    cloud.ok("flavor", "create", "giant", "--vcpus", "1000")
    cloud.ok("instance", "create", "none", "--flavor", "giant", "--image", "disk")
    code, error = cloud.refused("instance", "console", "none")
    assert (code, error["reason"]) == (5, "CONSOLE_NOT_READY")
    code, error = cloud.refused("instance", "console", "web", "--from", str(10**12))
    assert (code, error["reason"]) == (2, "CONSOLE_OFFSET_GONE")
