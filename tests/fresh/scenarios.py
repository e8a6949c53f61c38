"""Owns what is tried on a fresh Debian, what is expected of it, and its figures."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import roots
from machines import NEWCOMER, ROOT, Broken, Machine, Person, machine

import debian

CHECKOUT = roots.HERE.parent.parent
FIGURES = CHECKOUT / "build" / "fresh.json"
BUNDLE = Path("opt/stead.bundle")
FIRST_S = 300
SECOND_S = 30
INSTALLS = ("installing Debian packages", "making .venv")
GREETING = "STEAD-GUEST name=demo id="


class Trial:
    """One person at one machine with a clone of the repository; notes what is not as promised."""

    def __init__(self, at: Machine, person: Person) -> None:
        self.at = at
        self.person = person
        self.clone = f"{person.home}/stead"
        self.seconds: dict[str, float] = {}
        self.failures: list[str] = []
        # The network is shared, and with it the ports.
        self.settings = {"STEAD_API_LISTEN": f"127.0.0.1:{free_port()}"}
        bundle(at.root / BUNDLE)
        at.run(person, person.home, f"git clone --quiet /{BUNDLE} stead")
        self.mounts = at.mounts()

    def expect(self, kept: bool, words: str) -> None:
        """Notes a promise that was not kept; the trial goes on."""
        if not kept:
            print(f"fresh: FAILED: {words}", flush=True)
            self.failures.append(words)

    def make(self, word: str, *, called: str) -> str:
        """Runs `make WORD` and notes its seconds; what it said. Raises Broken if it ends badly."""
        began = time.monotonic()
        try:
            return self.at.run(self.person, self.clone, f"make {word}", **self.settings)
        finally:
            self.note(called, time.monotonic() - began)

    def interrupt(self, word: str, *, called: str, moment: Callable[[Path, Path], bool]) -> None:
        """Kills `make WORD` and all that runs when the moment of checkout and home has come.

        Raises Broken if it does not come.
        """
        checkout = self.inside(self.clone)
        home = self.inside(f"{self.person.home}/.local/share/stead")
        took_s = self.at.run_until(
            self.person,
            self.clone,
            f"make {word}",
            moment=lambda: moment(checkout, home),
            **self.settings,
        )
        self.note(f"killed_in_{called}", took_s)

    def inside(self, path: str) -> Path:
        """A path of the machine, as the outside sees it."""
        return self.at.root / path.lstrip("/")

    def note(self, called: str, seconds: float) -> None:
        """Notes how long something took, and says it."""
        self.seconds[called] = round(seconds, 1)
        print(f"fresh: {self.person.name}: {called} {seconds:.1f} s", flush=True)

    def guests(self) -> list[int]:
        """The processes that are guests."""
        return [it.pid for it in self.at.processes() if "/qemu-system-" in it.words.split(" ")[0]]

    def expect_a_cloud(self, said: str) -> None:
        """Notes what is missing of a cloud with one guest after `make demo` said this."""
        self.expect(GREETING in said, f"`{GREETING}` stands nowhere in what make demo said")
        self.expect(len(self.guests()) == 1, f"one guest runs, not {len(self.guests())}")
        others = [it for it in self.at.processes() if it.uid != self.person.uid]
        self.expect(not others, f"all runs as {self.person.name}, but not {others[:3]}")
        self.at.run(self.person, self.clone, ".venv/bin/stead status", **self.settings)

    def expect_nothing_left(self) -> None:
        """Notes what still runs or is mounted after `make down`."""
        left = [it.words[:120] for it in self.at.processes()]
        self.expect(not left, f"no process is left by make down, but {left}")
        self.expect(self.at.mounts() == self.mounts, "make down leaves the mounts as they were")


def twice_and_down(trial: Trial) -> None:
    """`make demo` twice and `make down`, by the clock. Raises Broken."""
    said = trial.make("demo", called="first")
    trial.expect(all(words in said for words in INSTALLS), f"the first says {INSTALLS}")
    trial.expect(trial.seconds["first"] <= FIRST_S, f"the first takes at most {FIRST_S} s")
    trial.expect_a_cloud(said)
    guests = trial.guests()
    said = trial.make("demo", called="second")
    trial.expect(not any(words in said for words in INSTALLS), "the second installs nothing")
    trial.expect(trial.seconds["second"] <= SECOND_S, f"the second takes at most {SECOND_S} s")
    trial.expect_a_cloud(said)
    trial.expect(trial.guests() == guests, "the second finds the guest of the first")
    trial.make("down", called="down")
    trial.expect_nothing_left()


def contains(file: Path, words: str, *, times: int = 1) -> bool:
    """Whether a file that may not be there yet has the words so often."""
    return file.exists() and file.read_text(errors="replace").count(words) >= times


MOMENTS: dict[str, Callable[[Path, Path], bool]] = {
    "apt": lambda checkout, _: contains(
        checkout / "build/setup-debian.log", "\nUnpacking ", times=20
    ),
    "venv": lambda checkout, _: (checkout / ".venv/pyvenv.cfg").exists(),
    "pip": lambda checkout, _: contains(
        checkout / "build/setup-python.log", "\nCollecting ", times=20
    ),
    "guest_build": lambda checkout, _: (checkout / "build/guest/work/packages").exists(),
    "up": lambda _, home: (home / "postgres").exists(),
}


def interrupted(trial: Trial) -> None:
    """`make demo` killed at each of the moments, with all that runs, then left alone.

    Raises Broken.
    """
    for called, moment in MOMENTS.items():
        trial.interrupt("demo", called=called, moment=moment)
    said = trial.make("demo", called="left_alone")
    trial.expect_a_cloud(said)
    trial.make("down", called="down")
    trial.expect_nothing_left()


SCENARIOS: dict[str, tuple[Person, Callable[[Trial], None]]] = {
    "root": (ROOT, twice_and_down),
    "user": (NEWCOMER, twice_and_down),
    "interrupted": (NEWCOMER, interrupted),
}


def main(wanted: list[str]) -> int:
    """Runs the scenarios, one after the other, and writes the figures."""
    unknown = [name for name in wanted if name not in SCENARIOS]
    if unknown or os.geteuid() != 0:
        print(f"usage: tests/fresh/run [{'] ['.join(SCENARIOS)}], as root", file=sys.stderr)
        return 2
    figures: dict[str, Any] = {}
    began = time.monotonic()
    roots.WORK.mkdir(parents=True, exist_ok=True)
    try:
        with (roots.WORK / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for stale in roots.WORK.glob("*/"):
                roots.remove(stale)
            get_debootstrap()
            for name in wanted or SCENARIOS:
                figures[name] = figures_of(name)
    except (roots.NotMade, debian.NotInstallable) as stop:
        print(f"fresh: {stop}", file=sys.stderr)
        figures["not_made"] = {"failures": [str(stop)]}
    failures = [f"{name}: {it}" for name in figures for it in figures[name]["failures"]]
    figures |= {"passed": not failures, "seconds": round(time.monotonic() - began, 1)}
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"fresh: {'passed' if not failures else f'{len(failures)} failed'}: {FIGURES}")
    return int(bool(failures))


def figures_of(name: str) -> dict[str, Any]:
    """Runs one scenario on a machine of its own; its seconds, and what failed."""
    person, play = SCENARIOS[name]
    print(f"fresh: {name}: a new machine", flush=True)
    trial = None
    try:
        with machine(name) as at:
            trial = Trial(at, person)
            play(trial)
    except Broken as broken:
        print(f"fresh: FAILED: {broken}", flush=True)
        failures = [*trial.failures, str(broken)] if trial else [str(broken)]
    else:
        failures = trial.failures
    return {"seconds": trial.seconds if trial else {}, "failures": failures}


def get_debootstrap() -> None:
    """Installs debootstrap if it is missing. Raises debian.NotInstallable."""
    if shutil.which("debootstrap", path=debian.SEARCH_PATH) is None:
        print("fresh: installing the Debian package debootstrap", flush=True)
        debian.install(["debootstrap"])


def bundle(file: Path) -> None:
    """Writes what was committed last into one file. Raises Broken."""
    of = os.environ.get("STEAD_FRESH_OF", str(CHECKOUT))
    git = ["git", "-c", "safe.directory=*", "-C", of, "bundle", "create", "--quiet"]
    ended = subprocess.run([*git, str(file), "HEAD"], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise Broken(f"{of} cannot be cloned: {ended.stderr.strip()}")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
