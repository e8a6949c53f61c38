"""Owns the order of `make setup`: system packages, then .venv. Installs, and starts nothing.

Ends with 0 when everything is there, 2 when somebody has to do something first.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import sys

import debian
import environment

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON_AT_LEAST = (3, 11)


def main() -> int:
    """Brings the checkout to where every make target works."""
    if sys.version_info < PYTHON_AT_LEAST:
        found = ".".join(map(str, sys.version_info[:3]))
        print(
            f"stead: needs Python 3.11 or newer; python3 here is {found} ({sys.executable})",
            file=sys.stderr,
        )
        return 2
    if (
        environment.is_current()
        and not debian.missing(building=False)
        and not debian.BEFORE.exists()
    ):
        return 0
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("stead: another `make setup` is at work here; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Inherited: should this process be killed, the next one waits for the pip that it leaves.
        os.set_inheritable(lock.fileno(), True)
        return install()


def install() -> int:
    """Installs what is missing, saying what."""
    debian.tell_if_not_tested_here()
    debian.settle_record()
    absent = debian.missing(building=not environment.is_current())
    try:
        if absent:
            print("stead: installing Debian packages:")
            for need in absent:
                print(f"  {need.package}, {need.purpose}")
            sys.stdout.flush()
            debian.install([need.package for need in absent])
        if not environment.is_current():
            how = "updating .venv" if environment.stamp() else "making .venv (a minute or so)"
            print(f"stead: {how} from requirements/*.lock", flush=True)
            environment.make()
    except (debian.NotInstallable, environment.NotMade) as stop:
        print(f"stead: {stop}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stead: interrupted; `make setup` goes on where it has to", file=sys.stderr)
        sys.exit(130)
