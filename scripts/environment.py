"""Owns .venv: makes it from the locks, and knows whether it is whole. Knows no Debian packages."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "stead-stamp.json"
LOG = ROOT / "build" / "setup-python.log"
LOCKS = ["requirements/build.lock", "requirements/dev.lock"]
PIP = [
    str(VENV / "bin" / "python"),
    "-m",
    "pip",
    "--disable-pip-version-check",
    "--no-input",
    "--retries=2",
]
# No cache: a libvirt-python built against another libvirt must never come back.
INSTALL = [*PIP, "install", "--no-cache-dir", "--require-hashes", "--no-build-isolation"]


class NotMade(Exception):
    """The environment could not be made; the text says which package was wanted."""


def fingerprint() -> str:
    """What .venv was made from: the locks, the project's own declaration and where it stands."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in [*LOCKS, "pyproject.toml"]:
        text = (ROOT / name).read_text()
        if name == "pyproject.toml":
            # Settings of tools change nothing in .venv.
            text = text.split("\n[tool.mypy]", 1)[0]
        digest.update(text.encode())
    return digest.hexdigest()


def stamp() -> dict[str, str]:
    """What a whole .venv says of itself, or nothing."""
    try:
        said = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    python = (VENV / "bin" / "python").resolve()
    return said if python.exists() and str(python) == said.get("python") else {}


def is_current() -> bool:
    """Whether .venv is whole and made from today's locks."""
    return stamp().get("fingerprint") == fingerprint()


def make() -> None:
    """Makes or updates .venv. Raises NotMade.

    The stamp is written last: a .venv without one was interrupted, and is made again from nothing.
    """
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    whole = bool(stamp())
    STAMP.unlink(missing_ok=True)
    if not whole:
        shutil.rmtree(VENV, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(VENV)], wanted="python3-venv")
    for lock in LOCKS:
        run([*INSTALL, "--requirement", lock])
    if whole:
        remove_what_no_lock_names()
    run(
        [*PIP, "install", "--no-deps", "--no-build-isolation", "--no-index", "--editable", "."],
        wanted="stead itself",
    )
    written = {"fingerprint": fingerprint(), "python": str((VENV / "bin" / "python").resolve())}
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(json.dumps(written))
    unfinished.replace(STAMP)


def remove_what_no_lock_names() -> None:
    """Takes out of an updated .venv what an older lock had put there."""
    named = {"stead"}
    for lock in LOCKS:
        found = re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / lock).read_text(), re.MULTILINE)
        named |= {name.lower() for name in found}
    listed = subprocess.run(
        [*PIP, "list", "--format=json"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    present = {re.sub(r"[-_.]+", "-", entry["name"]).lower() for entry in json.loads(listed.stdout)}
    extra = sorted(present - named)
    if extra:
        run([*PIP, "uninstall", "--yes", *extra])


def run(command: list[str], *, wanted: str = "") -> None:
    """Runs one step, its words into the log. Raises NotMade, naming the package it was at."""
    environment = {**os.environ, "PIP_REQUIRE_VIRTUALENV": "1"}
    last = ""
    lines: list[str] = []
    with (
        LOG.open("a") as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            close_fds=False,
        ) as step,
    ):
        for line in step.stdout or ():
            log.write(line)
            lines.append(line.strip())
            collected = re.search(r"(?:Collecting|wheel for|the requirement) (\S+)", line)
            last = collected.group(1) if collected else last
    if step.returncode != 0:
        said = next(
            (line for line in lines if line.startswith("ERROR:")),
            lines[-1] if lines else "nothing was said",
        )
        raise NotMade(
            f"could not install {wanted or last or 'the Python packages'}: {said}\n"
            f"  all it said: {LOG.relative_to(ROOT)}\n  Is there a network? Then run again."
        )
