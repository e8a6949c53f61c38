"""`python -m tests.chaos --minutes N --seed S`: breaks a cloud for that long and judges it.

Owns the walls around a run: namespaces of its own for processes, mounts and network, so that its
small disks and cut roads are nobody else's and nothing of it outlives it. Ends with 0 only if
everything held.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import traceback
from pathlib import Path

from tests.hypervisors import guest_image

ROOT = Path(__file__).parents[2]
INSIDE = "CHAOS_INSIDE"
NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
AS_USER = ("--user", "--map-current-user", "--keep-caps")


def main() -> int:
    """Reads the flags, goes inside, runs."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--fake-only", action="store_true", help="no real host: for trying things")
    parser.add_argument("--mutant", default="", help="a name of tests/chaos/mutants.py: must fail")
    flags = parser.parse_args()
    if INSIDE not in os.environ:
        seed = random.SystemRandom().randrange(1 << 31) if flags.seed is None else flags.seed
        os.environ[INSIDE] = str(seed)
        if not flags.fake_only:
            # Inside there is no way out to fetch what it is built from.
            guest_image()
        outside = () if os.geteuid() == 0 else AS_USER
        command = ["unshare", *outside, *NAMESPACES, sys.executable, "-m", "tests.chaos"]
        os.execvp(command[0], [*command, *sys.argv[1:]])
    return reaped(int(os.environ[INSIDE]), flags)


def reaped(seed: int, flags: argparse.Namespace) -> int:
    """Runs in a child, and as process 1 of its namespace buries whoever has no parent any more."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = run_in_folder(seed, flags)
        except Exception:  # noqa: BLE001  # nobody else is left to tell of it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) & 255


def run_in_folder(seed: int, flags: argparse.Namespace) -> int:
    """One run in a folder of its own, whose path is short enough for sockets."""
    from tests.chaos import packets
    from tests.chaos.homes import ChaosCloud
    from tests.chaos.run import run
    from tests.engines import free_port

    packets.open_loopback()
    print(f"chaos: seed {seed}, {flags.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp", ignore_cleanup_errors=True) as at:
        home = Path(at) / "h"
        cloud = ChaosCloud(home, free_port(), real=not flags.fake_only, mutant=flags.mutant)
        return asyncio.run(run(cloud, seed=seed, minutes=flags.minutes, build=flags.build))


if __name__ == "__main__":
    sys.exit(main())
