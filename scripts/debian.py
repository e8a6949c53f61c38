"""Owns what stead needs of the system: tells what is missing, installs it, records what was added.

It does not know Python packages (scripts/environment.py) and starts nothing.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "scripts" / "debian-packages.txt"
ADDED = ROOT / "build" / "debian-packages-added"
BEFORE = ROOT / "build" / "debian-packages-before"
TOLD = ROOT / "build" / "told-not-tested-here"
ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm", "ppc64le": "ppc", "riscv64": "misc"}
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
OPTIONS = ["-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]


class Need(NamedTuple):
    """One line of the table: a Debian package and how to tell that what it brings is there."""

    package: str
    when: str
    sign: str
    purpose: str


class NotInstallable(Exception):
    """The missing packages cannot be installed from here; the text says what to do."""


def needs(*, building: bool) -> list[Need]:
    """The lines of the table that count: those to run stead, and those to build it if asked."""
    machine = platform.machine()
    words = {"machine": machine, "arch": ARCHITECTURES.get(machine, machine)}
    found = []
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            need = Need(*line.format(**words).split(None, 3))
            if building or need.when == "run":
                found.append(need)
    return found


def is_there(sign: str) -> bool:
    """Whether the system already has what the sign describes, from whatever source."""
    kind, _, name = sign.partition(":")
    if kind == "module":
        return importlib.util.find_spec(name) is not None
    if kind == "header":
        return (pathlib.Path(sysconfig.get_paths()["include"]) / name).exists()
    if kind == "command":
        return shutil.which(name, path=SEARCH_PATH) is not None
    if kind == "file":
        return any(pathlib.Path("/").glob(name.removeprefix("/")))
    if kind == "library":
        tool = shutil.which("pkg-config")
        return (
            tool is not None
            and subprocess.run([tool, "--exists", name], check=False).returncode == 0
        )
    raise ValueError(f"{TABLE.name}: unknown sign {sign}")


def missing(*, building: bool) -> list[Need]:
    """What is needed and not there."""
    return [need for need in needs(building=building) if not is_there(need.sign)]


def release() -> tuple[str, str, str]:
    """The distribution's id, its version and the processor, as the system names them."""
    fields = {}
    source = pathlib.Path("/etc/os-release")
    for line in source.read_text().splitlines() if source.exists() else []:
        key, _, word = line.partition("=")
        fields[key] = word.strip("\"'")
    return fields.get("ID", "unknown"), fields.get("VERSION_ID", ""), platform.machine()


def tell_if_not_tested_here() -> None:
    """Says once per checkout that nobody has tried this distribution or processor."""
    distribution, version, machine = release()
    if (distribution, version, machine) == ("debian", "12", "x86_64") or TOLD.exists():
        return
    here = f"{distribution} {version} on {machine}"
    print(f"stead: not tested here: {here} (tested: debian 12 on x86_64); going on")
    TOLD.parent.mkdir(exist_ok=True)
    TOLD.touch()


def installed() -> set[str]:
    """Names of all Debian packages that are installed now."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n"]
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in listed.splitlines() if line.startswith("ii")}


def settle_record() -> None:
    """Adds to the record what came since the last `BEFORE`, also when that run was interrupted."""
    if not BEFORE.exists():
        return
    added = installed() - set(BEFORE.read_text().split())
    known = set(ADDED.read_text().split()) if ADDED.exists() else set()
    if added | known:
        ADDED.write_text("\n".join(sorted(added | known)) + "\n")
    BEFORE.unlink()


def install(packages: list[str]) -> None:
    """Installs Debian packages as root or by sudo, and records what was added.

    Raises NotInstallable with the line to run by hand.
    """
    line = "apt-get install --no-install-recommends " + " ".join(packages)
    if shutil.which("apt-get") is None:
        raise NotInstallable(
            "there is no apt-get here. Install what gives these by hand: " + " ".join(packages)
        )
    prefix = [] if os.geteuid() == 0 else sudo()
    if prefix is None:
        raise NotInstallable(
            f"not root and no sudo. Have this run as root, then try again:\n  {line}"
        )
    BEFORE.parent.mkdir(exist_ok=True)
    if not BEFORE.exists():
        BEFORE.write_text("\n".join(sorted(installed())) + "\n")
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]
    steps = [
        [*apt, "dpkg", "--configure", "-a"],
        [*apt, "apt-get", "update", "-q", "-o", "DPkg::Lock::Timeout=120"],
        [*apt, "apt-get", "install", *OPTIONS, *packages],
    ]
    log = ROOT / "build" / "setup-debian.log"
    with log.open("wb") as output:
        for step in steps:
            output.write(f"$ {shlex.join(step)}\n".encode())
            output.flush()
            ended = subprocess.run(step, stdout=output, stderr=output, stdin=None, check=False)
            # An update may fail for a source that is not needed; the install itself decides.
            if ended.returncode != 0 and step is steps[-1]:
                settle_record()
                raise NotInstallable(failure(log, packages, line))
    settle_record()


def failure(log: pathlib.Path, packages: list[str], line: str) -> str:
    """What to tell when apt ended badly: its own first words, what was wanted, what to run."""
    said = [
        row
        for row in log.read_text(errors="replace").splitlines()
        if row.startswith(("E:", "Err:", "W: Failed"))
    ]
    return (
        "\n  ".join([f"apt-get could not install: {' '.join(packages)}", *said[:3]])
        + f"\n  all it said: {log.relative_to(ROOT)}\n"
        f"  Is there a network? Then run again, or by hand: {line}"
    )


def sudo() -> list[str] | None:
    """How to become root, or None. Asks for a password only where somebody can answer."""
    command = shutil.which("sudo")
    if command is None:
        return None
    if subprocess.run([command, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [command, "-n"]
    return [command] if sys.stdin.isatty() else None
