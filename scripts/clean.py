"""Owns the removal of what `make` built in the checkout. Stops nothing and uninstalls nothing."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys

import debian

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILT = [".venv", "build", "dist"]
CACHES = [".hypothesis", ".import_linter_cache", ".mypy_cache", ".pytest_cache", ".ruff_cache"]
# Where a client was made in its own folder and not by tests.
CLIENTS = [
    "clients/go/gen",
    "clients/node/gen",
    "clients/node/node_modules",
    "clients/python/gen",
]
# The record of added Debian packages outlives the rest of build/: the packages do too.
KEPT = [debian.ADDED]


def users() -> list[int]:
    """Processes that run a program from here, such as the services of a running cloud."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            program = (entry / "exe").readlink()
            first = (entry / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            named = (entry / "cwd").readlink() / first
        except OSError:
            continue
        if any(path.is_relative_to(ROOT / top) for path in (program, named) for top in BUILT):
            found.append(int(entry.name))
    return sorted(found)


def targets() -> list[pathlib.Path]:
    """What will be removed, of what exists."""
    named = [ROOT / name for name in [*BUILT, *CACHES, *CLIENTS]]
    cached = [
        path
        for top in ("services", "generated", "tests", "scripts", "clients")
        for path in (ROOT / top).rglob("__pycache__")
    ]
    return [path for path in [*named, *cached] if path.exists()]


def remove(path: pathlib.Path) -> None:
    """Removes a folder, but for what is kept."""
    kept = {keep: keep.read_bytes() for keep in KEPT if keep.is_relative_to(path) and keep.exists()}
    shutil.rmtree(path)
    for keep, content in kept.items():
        keep.parent.mkdir(parents=True)
        keep.write_bytes(content)


def main() -> int:
    """Removes, or says what still runs from here."""
    running = users()
    if running:
        print(
            f"stead: programs in .venv or build/ are running (pids {running}); `make down` first",
            file=sys.stderr,
        )
        return 2
    found = targets()
    for path in found:
        if path.name != "__pycache__":
            print(f"removing {path.relative_to(ROOT)}/")
    sys.stdout.flush()
    for path in found:
        remove(path)
    if debian.ADDED.exists():
        names = " ".join(debian.ADDED.read_text().split())
        print("left alone: the Debian packages that `make setup` added. To remove them, as root:")
        print(f"  apt-get remove {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
