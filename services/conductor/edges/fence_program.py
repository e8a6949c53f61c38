"""The operator's own program that makes sure that a host runs nothing: its power strip, its IPMI.

Owns how it is run: fixed words and the host's id, no shell, a bounded time, its output in the log.
"""

import asyncio
import contextlib
import os
import shlex
import signal

from services.runtime.log import logger

OUTPUT_MAX = 4096
# The conductor's own environment holds secrets that no power strip needs.
ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ")


class FenceProgram:
    """Implements `flows.ports.FenceDriver`. `command` is split into words, and seen by no shell."""

    def __init__(self, command: str, timeout_s: float) -> None:
        self._words = shlex.split(command)
        self._timeout_s = timeout_s
        self.name = self._words[0]

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
        try:
            async with asyncio.timeout(self._timeout_s):
                output, _ = await program.communicate()
        except TimeoutError:
            logger().error("the fence program took too long", host=host_id, program=self.name)
            return False
        finally:
            if program.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)
                await program.wait()
        told = output[-OUTPUT_MAX:].decode("utf-8", "replace")
        code = program.returncode
        logger().warning("the fence program ended", host=host_id, code=code, output=told)
        return code == 0
