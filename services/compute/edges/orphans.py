"""A process that stands above libvirtd and takes in the guests that it leaves.

libvirtd waits for each QEMU that it ends until the process is gone. A QEMU's parent is the
system's init, and one that is slow to clear away the dead, or a container's that never does, would
make every such wait slow, or fail. Here they are cleared away at once.
"""

import ctypes
import os
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_above(command: list[str], environment: dict[str, str]) -> int:
    """Runs a program to its end, gives its exit code, and clears away orphans meanwhile.

    SIGTERM, SIGINT and SIGHUP are passed on. When this process is killed, so is the program.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    awaited = {signal.SIGCHLD, *_FORWARDED}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    sys.stdout.flush()
    tied = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    program = os.posix_spawnp(tied[0], tied, environment, setsigmask=())
    while True:
        received = signal.sigwait(awaited)
        if received is not signal.SIGCHLD:
            os.kill(program, received)
            continue
        for pid, status in _ended_children():
            if pid == program:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def _ended_children() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))
