"""Real hypervisors for tests: a libvirtd of the test's own home, and the guest image of the demo.

Each ends what it started, guests too, by process id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PATIENCE_S = 90.0
PAUSE_S = 0.05
BUILD_S = 600.0
MODULE = "services.compute.edges.libvirtd"


@dataclass
class Libvirtd:
    """The libvirtd of `home`."""

    home: Path
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Where clients find it."""
        return _output(sys.executable, "-m", MODULE, "--home", str(self.home), "--print-uri")

    @property
    def log(self) -> Path:
        """What it said on standard error."""
        return self.home / "libvirtd.log"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        assert shutil.which("virsh"), "virsh is missing: apt-get install libvirt-clients"
        command = [sys.executable, "-m", MODULE, "--home", str(self.home)]
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(command, cwd=REPOSITORY, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.daemon.poll() is None:
            time.sleep(0.05)
            with contextlib.suppress(subprocess.CalledProcessError):
                self.virsh("version")
                if self.daemon.poll() is None:
                    return
        raise TimeoutError(f"libvirtd does not answer: {self.log.read_text()}")

    @property
    def pid(self) -> int:
        """Its keeper's process id."""
        assert self.daemon is not None
        return self.daemon.pid

    def ended(self) -> int:
        """Waits for its end, and gives the exit code."""
        assert self.daemon is not None
        return self.daemon.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kills libvirtd with its keeper, not its guests, as the kernel would."""
        os.kill(self.pid, signal.SIGKILL)
        self.ended()

    def stop(self) -> None:
        """Ends libvirtd, not its guests, as its supervisor does."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.terminate()
            self.ended()

    def virsh(self, *words: str) -> str:
        """What virsh answers."""
        return _output("virsh", "--quiet", "--connect", self.uri, *words)

    def guests(self) -> dict[str, int]:
        """The pid of each QEMU that has something of this home open, by its instance id."""
        found = {}
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    if "-uuid" in words and any(str(self.home) in word for word in words):
                        found[words[words.index("-uuid") + 1]] = int(process.name)
        return found

    def end(self) -> None:
        """Ends libvirtd and every guest of this home."""
        with contextlib.suppress(subprocess.CalledProcessError):
            for instance_id in self.virsh("list", "--uuid").split():
                self.virsh("destroy", instance_id)
        self.stop()
        for pid in self.guests().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _output(*command: str) -> str:
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout.strip()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns once `holds` does; raises TimeoutError if that takes unreasonably long."""
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(int(PATIENCE_S / PAUSE_S)):
            if await holds():
                return
            await asyncio.sleep(PAUSE_S)
    raise TimeoutError("it did not come about")


@contextlib.contextmanager
def libvirtd() -> Iterator[Libvirtd]:
    """A libvirtd with a home of its own, whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="stead-", dir="/tmp") as home:
        daemon = Libvirtd(Path(home))
        try:
            daemon.start()
            yield daemon
        finally:
            daemon.end()


def guest_image() -> Path:
    """The demo's guest, built if it is not there."""
    out = Path(os.environ.get("STEAD_TEST_CACHE", REPOSITORY / "build")) / "guest"
    built = subprocess.run(
        [REPOSITORY / "guest" / "build", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    assert built.returncode == 0, built.stdout
    return out / "stead-guest.kernel.tar"
