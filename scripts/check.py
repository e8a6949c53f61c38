"""Owns `make check`: every judgement of the checkout that needs no running service, side by side.

`make check ONLY="types-3.11 walls"` asks for some of them. Changes nothing but build/.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import comments
import proto

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
IMAGE = BUILD / "api.binpb"
RELEASED = ROOT / "proto" / "released.binpb"
PROGRAMS = pathlib.Path(sys.executable).parent
TYPED = ["services", "tests/fakes", "scripts", "clients/python"]
DEADLINE_S = 300
AT_ONCE = max(2, os.cpu_count() or 2)


class Outcome(NamedTuple):
    """How one check ended: its name, whether all is well, what it said, how long it took."""

    name: str
    passed: bool
    said: str
    seconds: float


def program(name: str, *arguments: str) -> Callable[[], tuple[bool, str]]:
    """A check that runs a program of .venv and trusts its exit code."""

    def run() -> tuple[bool, str]:
        ended = subprocess.run(
            [str(PROGRAMS / name), *arguments],
            cwd=ROOT,
            env={**os.environ, "BUF_CACHE_DIR": str(BUILD / "buf-cache")},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return ended.returncode == 0, ended.stdout + ended.stderr

    return run


def types(version: str) -> Callable[[], tuple[bool, str]]:
    """mypy --strict as that Python sees it."""
    existing = [name for name in TYPED if (ROOT / name).exists()]
    return program("mypy", f"--python-version={version}", *existing)


def keeps_the_promise() -> tuple[bool, str]:
    """Whether who uses the last released contract can go on with this one."""
    if not RELEASED.exists():
        return False, f"{RELEASED.relative_to(ROOT)} is missing: `make release` writes it"
    against = f"--against={RELEASED}"
    return program("buf", "breaking", str(IMAGE), against, "--path=stead", "--config=buf.yaml")()


def says_enough() -> tuple[bool, str]:
    """Whether every element of the contract is explained."""
    said = comments.complaints(IMAGE)
    return not said, "\n".join(said)


def is_made_from_proto() -> tuple[bool, str]:
    """Whether generated/ is what `make proto` would make now."""
    with tempfile.TemporaryDirectory() as folder:
        proto.write_code(pathlib.Path(folder), image=IMAGE, files=proto.ours())
        stale = proto.stale(pathlib.Path(folder))
    return not stale, "\n".join(["run `make proto`; these differ:", *stale]) if stale else ""


CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "types-3.11": types("3.11"),
    "types-3.13": types("3.13"),
    "style": program("ruff", "check", "--quiet", "."),
    "format": program("ruff", "format", "--check", "--quiet", "--diff", "."),
    "walls": program("lint-imports", "--cache-dir=build/import-linter"),
    "proto-format": program("buf", "format", "--diff", "--exit-code", "proto"),
    "proto-lint": program("buf", "lint", str(IMAGE), "--path=stead", "--config=buf.yaml"),
    "proto-breaking": keeps_the_promise,
    "proto-comments": says_enough,
    "generated": is_made_from_proto,
    "docs": program("python", "scripts/docs.py", "--check"),
}


def timed(name: str) -> Outcome:
    """Runs one check."""
    began = time.monotonic()
    try:
        passed, said = CHECKS[name]()
    except (subprocess.TimeoutExpired, proto.NotCompiled, OSError) as error:
        passed, said = False, f"{type(error).__name__}: {error}"
    return Outcome(name, passed, said, round(time.monotonic() - began, 1))


def main(wanted: list[str]) -> int:
    """Runs the checks that are wanted, or all; says what failed and why."""
    unknown = set(wanted) - set(CHECKS)
    if unknown:
        print(f"stead: no such check: {' '.join(unknown)}; there are: {' '.join(CHECKS)}")
        return 2
    BUILD.mkdir(exist_ok=True)
    began = time.monotonic()
    try:
        proto.write_image(IMAGE)
    except proto.NotCompiled:
        print("proto/ does not compile; see above")
        return 1
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(timed, wanted or CHECKS))
    for outcome in outcomes:
        print(f"{'ok    ' if outcome.passed else 'FAILED'} {outcome.name} ({outcome.seconds} s)")
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        print(f"\n--- {outcome.name}\n{outcome.said.strip()}")
    figures = {
        "passed": len(outcomes) - len(failed),
        "failed": [outcome.name for outcome in failed],
        "seconds": round(time.monotonic() - began, 1),
        "each": {outcome.name: outcome.seconds for outcome in outcomes},
    }
    (BUILD / "check.json").write_text(json.dumps(figures, indent=2) + "\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
