"""Owns machines: namespaces around a root file system, commands run in them, their processes.

A machine ends with the process that started it, however that one ends, and everything in it does.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import roots

ENTER = roots.HERE / "enter"
NAMESPACES = ("--mount", "--uts", "--ipc", "--pid")
PATH_OF_ROOT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATH_OF_USERS = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
PATIENCE_S = 900
# What `enter` becomes, and what that waits for.
KEEPERS = ("/bin/sh -c while :; do sleep 1000; done", "sleep 1000")


class Broken(Exception):
    """Something is not as it should be; the text says what."""


class Process(NamedTuple):
    """A process of a machine: its number as the outside sees it, whose it is, what it is."""

    pid: int
    uid: int
    words: str


class Person(NamedTuple):
    """Somebody who works at a machine."""

    name: str
    uid: int
    home: str
    path: str


ROOT = Person("root", 0, "/root", PATH_OF_ROOT)
NEWCOMER = Person(roots.USER, roots.UID, f"/home/{roots.USER}", PATH_OF_USERS)


class Machine:
    """A running machine."""

    def __init__(self, root: Path, log: Path, init: int) -> None:
        self.root = root
        self.log = log
        self.init = init

    def start(
        self, person: Person, folder: str, words: str, **extra: str
    ) -> subprocess.Popen[bytes]:
        """Starts a line of shell as that person; what it says goes to the machine's log."""
        settings = {
            "HOME": person.home,
            "USER": person.name,
            "LOGNAME": person.name,
            "SHELL": "/bin/bash",
            "PATH": person.path,
            "TERM": "dumb",
            **roots.environment(),
            **extra,
        }
        become = ("setpriv", f"--reuid={person.uid}", f"--regid={person.uid}", "--init-groups")
        command = ("/bin/sh", "-c", 'cd "$1" && eval "$2"', "sh", folder, words)
        with self.log.open("ab") as output:
            output.write(f"\n{person.name}:{folder}$ {words}\n".encode())
            output.flush()
            return subprocess.Popen(
                ["nsenter", f"--target={self.init}", *NAMESPACES, "--", *become, *command],
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def run(self, person: Person, folder: str, words: str, **extra: str) -> str:
        """Runs a line of shell to its end; what it said. Raises Broken if it ends badly."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.start(person, folder, words, **extra) as running:
            try:
                code = running.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                running.kill()
                raise Broken(f"`{words}` did not end in {PATIENCE_S} s; see {self.log}") from None
        said = self.log.read_bytes()[before:].decode(errors="replace")
        if code != 0:
            last = "\n  ".join(said.splitlines()[-25:])
            raise Broken(
                f"`{words}` as {person.name} ended with {code}; {self.log} ends:\n  {last}"
            )
        return said

    def run_until(
        self, person: Person, folder: str, words: str, *, moment: Callable[[], bool], **extra: str
    ) -> float:
        """Runs a line of shell and kills all of the machine at the moment; the seconds to it.

        Raises Broken if it ended before.
        """
        began = time.monotonic()
        with self.start(person, folder, words, **extra) as running:
            while not moment():
                if running.poll() is not None:
                    raise Broken(f"`{words}` ended before it could be interrupted; see {self.log}")
                if time.monotonic() - began > PATIENCE_S:
                    raise Broken(f"the moment did not come in {PATIENCE_S} s; see {self.log}")
                time.sleep(0.02)
            self.kill_all()
        return round(time.monotonic() - began, 1)

    def kill_all(self) -> None:
        """SIGKILL for every process but the first one, as if by one blow."""
        kill = ["/bin/sh", "-c", "kill -9 -1"]
        subprocess.run(
            ["nsenter", f"--target={self.init}", *NAMESPACES, "--", *kill], timeout=60, check=True
        )

    def processes(self) -> list[Process]:
        """What runs on the machine, but for what keeps it going."""
        space = Path(f"/proc/{self.init}/ns/pid").readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "ns/pid").readlink() != space:
                    continue
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] in "ZX":
                    continue
                words = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                uid = entry.stat().st_uid
            except OSError:
                continue
            of_machine = int(entry.name) == self.init or int(fields[1]) == self.init
            if not (of_machine and words.strip() in KEEPERS):
                found.append(Process(int(entry.name), uid, words.strip()))
        return sorted(found)

    def mounts(self) -> list[str]:
        """What is mounted on the machine, sorted."""
        return sorted(Path(f"/proc/{self.init}/mounts").read_text().splitlines())


@contextlib.contextmanager
def machine(name: str) -> Iterator[Machine]:
    """A machine of a fresh root file system; all of it goes at the end, but its log.

    Raises roots.NotMade, Broken.
    """
    root = roots.unpack(name)
    log = roots.WORK / f"{name}.log"
    log.unlink(missing_ok=True)
    # Killed with this process: unshare, and with it the machine.
    command = ["setpriv", "--pdeathsig=KILL", "unshare", *NAMESPACES, "--fork", "--kill-child"]
    command += ["--", str(ENTER), str(root)]
    init = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as unshare:
        try:
            if unshare.stdout is None or unshare.stdout.readline() != b"ready\n":
                raise Broken(f"no namespaces for the machine {name}: see what {ENTER} said")
            children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
            init = int(children[0])
            yield Machine(root, log, init)
        finally:
            # The first process ends with it, and with the first one all others and every mount.
            unshare.kill()
            for _ in range(300):
                if not is_alive(init):
                    break
                time.sleep(0.1)
            roots.remove(root)


def is_alive(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be reaped is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
