"""Processes of this machine, each named by pid and start time, never by its name alone."""

import asyncio
import contextlib
import os
import select
import shutil
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.cli.edges.engines import postgres
from services.cli.logic.home import Home
from services.cli.logic.units import Unit, passed_on

LOG_BYTES_MAX = 32 * 1024 * 1024
LAST_WORDS_BYTES = 2000
LAST_WORDS_LINES = 6


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child of this process."""

    of: asyncio.subprocess.Process
    started: int

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.of.pid

    async def wait(self) -> int:
        """Its exit code; negative for the signal that ended it."""
        return await self.of.wait()


@dataclass(frozen=True, slots=True)
class LocalProcesses:
    """The processes of one home; their words go to its logs."""

    home: Home
    environment: Mapping[str, str]

    def started(self, pid: int) -> int | None:
        """Start time in clock ticks since boot, None for the dead and for zombies."""
        return start_ticks(pid)

    async def spawn(self, unit: Unit) -> Spawned:
        """Starts a unit in a session of its own."""
        if unit.name == "postgres":
            await self._end_postmaster()
        log = self._log(unit)
        turn_over(log)
        with log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *unit.argv,
                env=passed_on(unit, self.environment),
                cwd=self.home.path,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return Spawned(child, start_ticks(child.pid) or 0)

    async def end(self, pid: int, started: int, *, number: int, grace_s: float) -> None:
        """Signals exactly this process, waits for its end, kills it after `grace_s` seconds."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return
        try:
            if start_ticks(pid) != started:
                return
            for signal_number, patience_s in ((number, grace_s), (signal.SIGKILL, 5.0)):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal_number)
                if await _has_ended(descriptor, patience_s):
                    return
        finally:
            os.close(descriptor)

    def last_words(self, unit: Unit) -> str:
        """The last lines of a unit's log, and where it lies."""
        log = self._log(unit)
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - LAST_WORDS_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return f"(no log at {log})"
        return "\n".join([f"{log} ends:", *lines[-LAST_WORDS_LINES:]])

    async def cut_back_log(self, unit: Unit) -> None:
        """Beside its writer."""
        await asyncio.to_thread(cut_back, self._log(unit))

    def port_holder(self, host: str, port: int) -> str | None:
        """None if the port is free, else who listens there, "" if that cannot be seen."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return None
            except PermissionError:
                return "the system: ports below 1024 are root's"
            except OSError:
                return listener(port)

    def _log(self, unit: Unit) -> Path:
        return self.home.logs / f"{unit.label}.log"

    async def _end_postmaster(self) -> None:
        pid = postgres.clear_leftovers(self.home)
        if pid and (started := start_ticks(pid)):
            await self.end(pid, started, number=signal.SIGINT, grace_s=10.0)
            postgres.clear_leftovers(self.home)


def start_ticks(pid: int) -> int | None:
    """The 22nd field of /proc/PID/stat; None for the dead and for zombies. Source: proc(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def turn_over(log: Path) -> None:
    """Keeps one older log beside a log that has grown large."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))


def cut_back(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """The same for a log that is being written: a copy is kept and the file begun anew. Whoever
    writes appends, and loses no more than the lines of this moment.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size <= bytes_max:
            return
        older = log.with_suffix(".log.1")
        try:
            shutil.copyfile(log, older)
        except OSError:
            # No room for both: the newer words are worth more.
            with contextlib.suppress(OSError):
                older.unlink(missing_ok=True)
        os.truncate(log, 0)


def listener(port: int) -> str:
    """The process that listens on a TCP port, as "pid 7: command line"; "" if it cannot be seen."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return ""
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN
        if listens and connection.pid and getattr(connection.laddr, "port", 0) == port:
            try:
                command = " ".join(psutil.Process(connection.pid).cmdline())
            except psutil.Error:
                command = "?"
            return f"pid {connection.pid}: {command[:120]}"
    return ""


async def _has_ended(descriptor: int, patience_s: float) -> bool:
    loop = asyncio.get_running_loop()
    until_s = loop.time() + patience_s
    while loop.time() < until_s:
        if select.select([descriptor], [], [], 0)[0]:
            return True
        await asyncio.sleep(0.02)
    return False
