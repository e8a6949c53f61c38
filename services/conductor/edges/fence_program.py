"""The operator's own program that makes sure that a host runs nothing: its power strip, its IPMI.

Owns how it is run: fixed words and the host's id, no shell, a bounded time, its output in the log.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from services.runtime.log import logger

OUTPUT_MAX = 4096
# What left the program's session may hold its output open.
OUTPUT_S = 1.0
# The conductor's own environment holds secrets that no power strip needs.
ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ")


class FenceProgram:
    """Implements `flows.ports.FenceDriver` by a program and its first words; no shell sees them."""

    def __init__(self, words: Sequence[str], timeout_s: float) -> None:
        self._words = words
        self._timeout_s = timeout_s
        self.name = words[0]

    async def fence(self, host_id: str) -> bool:
        """Whether it ended with 0 in time."""
        try:
            program = await asyncio.create_subprocess_exec(
                *self._words,
                host_id,
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            logger().error("the fence program cannot be run", host=host_id, error=repr(error))
            return False
        assert program.stdout is not None
        output = asyncio.create_task(_end_of(program.stdout))
        try:
            async with asyncio.timeout(self._timeout_s):
                code = await program.wait()
        except TimeoutError:
            logger().error("the fence program took too long", host=host_id, program=self.name)
            return False
        finally:
            # With all that it started: nothing of it may act on the host later.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            await asyncio.wait([output], timeout=OUTPUT_S)
            output.cancel()
        told = output.result() if output.done() and not output.cancelled() else ""
        logger().warning("the fence program ended", host=host_id, code=code, output=told)
        return code == 0


async def _end_of(stream: asyncio.StreamReader) -> str:
    end = b""
    while piece := await stream.read(OUTPUT_MAX):
        end = (end + piece)[-OUTPUT_MAX:]
    return end.decode("utf-8", "replace")
