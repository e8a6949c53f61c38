"""Going on without a terminal: a forked child tells its starter how it fares until it is up."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from services.cli.flows.ports import Tell
from services.cli.logic.refusal import Refusal, as_json
from services.domain.errors import Unavailable


class Starter:
    """The child's word to the one who started it. Says nothing once that one is gone or was told
    the end.
    """

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe: IO[str] | None = pipe

    def tell(self, line: str) -> None:
        """A line of progress; it goes to the log as well."""
        print(line, file=sys.stderr, flush=True)
        self._send({"tell": line})

    def up(self, said: str) -> None:
        """The cloud is up."""
        self._send({"up": said})
        self._close()

    def refuse(self, refusal: Refusal) -> None:
        """The cloud did not come up."""
        self._send({"refusal": as_json(refusal), "exit_code": refusal.exit_code})
        self._close()

    def _send(self, message: dict[str, Any]) -> None:
        if self._pipe is None:
            return
        try:
            self._pipe.write(json.dumps(message) + "\n")
            self._pipe.flush()
        except OSError:
            self._pipe = None

    def _close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def detach(work: Callable[[Starter], None], *, log: Path, tell: Tell) -> str:
    """Runs `work` in a daemon whose words go to `log`; what it said when it was up.

    Call it before any thread was started. Raises the Refusal that the daemon gave, Unavailable if
    it gave none.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _live_on(work, writing, log)
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            return _listen(pipe, log, tell)
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise


def _live_on(work: Callable[[Starter], None], writing: int, log: Path) -> None:
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        code = _work(work, Starter(os.fdopen(writing, "w")))
    finally:
        # The child must not return into its starter's code, whatever happened.
        sys.stderr.flush()
        os._exit(code)


def _work(work: Callable[[Starter], None], starter: Starter) -> int:
    try:
        work(starter)
    except Refusal as refusal:
        print(refusal.message, file=sys.stderr)
        starter.refuse(refusal)
        return refusal.exit_code
    except Exception as error:  # noqa: BLE001  # nobody else is left to tell of it
        traceback.print_exc()
        starter.refuse(Refusal("INTERNAL", "SUPERVISOR_FAILED", f"{type(error).__name__}: {error}"))
        return 1
    return 0


def _listen(pipe: IO[str], log: Path, tell: Tell) -> str:
    for line in pipe:
        message = json.loads(line)
        if "tell" in message:
            tell(message["tell"])
        elif "up" in message:
            return str(message["up"])
        elif "refusal" in message:
            raise Refusal(**message["refusal"], exit_code=message["exit_code"])
    raise Unavailable("START_FAILED", f"the supervisor ended without a word; see {log}")
