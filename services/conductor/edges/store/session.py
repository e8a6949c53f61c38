"""One connection to PostgreSQL for the life of the process, made again whenever it breaks.

Owns timeouts, reconnecting and what is tried again. Every caller is safe to be tried again: items
have natural keys (MECHANICS A5), reads and leases are idempotent. While the database is away one
task looks for it and everybody is refused at once. Does not pool: a lane owns its session. Does not
know what an error means (`trouble`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from services.conductor.edges.store.trouble import (
    LOST,
    NO_MEANS,
    NOT_REACHED,
    ROLLED_BACK,
    is_unsendable,
)
from services.domain.errors import Unavailable
from services.runtime.log import logger

Answer = TypeVar("Answer")

# Together with what one try may take this stays below what api waits for a round.
TRY_FOR_S = 3.0
PAUSE_S = 0.1
CONNECT_S = 3.0
LOOK_EVERY_S = 0.25
RETRY_AFTER_S = 1.0
SETTINGS = {
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",
    "application_name": "stead-conductor",
    "jit": "off",
    # Every statement reads by key, so one plan fits all values; making one for each costs as much
    # as the read. It may be made while tables are empty and be used until they are large: it must
    # not scan.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one statement may take, one transaction, which only newer servers bound, and one
    answer; and whether a statement that took too long is tried again.
    """

    statement_ms: int
    transaction_ms: int
    answer_s: float
    tries_again: bool

    def settings(self, release: int) -> list[str]:
        """The statements that set what a server of this release knows."""
        told = [f"SET statement_timeout = {self.statement_ms}"]
        since_17 = [f"SET transaction_timeout = {self.transaction_ms}"]
        return told + (since_17 if release >= 17 else [])


WRITES = Limits(5000, 6000, 6.0, tries_again=True)
# One open snapshot makes commits fall to a quarter. Source: MECHANICS A6.
READS = Limits(1900, 2000, 3.0, tries_again=False)


class _TroubleError(Exception):
    """One try failed in a way that another may not; the cause says how."""


class Session:
    """Runs work on its own connection, one piece at a time; `on_connect` is called with each new
    one before it is used.
    """

    def __init__(
        self,
        url: str,
        name: str,
        on_connect: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[None]] | None = None,
        *,
        limits: Limits = WRITES,
    ) -> None:
        self._url = url
        self._name = name
        self._limits = limits
        self._on_connect = on_connect
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._turn = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    async def run(
        self, work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[Answer]]
    ) -> Answer:
        """`work(connection)`, tried again for a few seconds where that is safe and may help.

        Raises Unavailable: DATABASE_UNAVAILABLE after that, or at once where the database has no
        means or is known to be away, READ_TOO_LONG where what took too long is not tried again.
        Raises errors of the statement itself as they are.
        """
        self._refuse_while_away()
        async with self._turn:
            self._refuse_while_away()
            loop = asyncio.get_running_loop()
            give_up_at, tries = loop.time() + TRY_FOR_S, 0
            while True:
                try:
                    return await self._try(work)
                except _TroubleError as trouble:
                    tries += 1
                    cause = trouble.__cause__
                if tries == 1:
                    logger().warning("database trouble", session=self._name, error=repr(cause))
                if loop.time() + PAUSE_S >= give_up_at:
                    if self._connection is None:
                        self._look_for_it()
                    raise Unavailable(
                        "DATABASE_UNAVAILABLE",
                        "the database did not answer; with the same request id nothing is done"
                        " twice: ask again",
                        retry_after_s=RETRY_AFTER_S,
                    ) from cause
                await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Drops the connection without waiting for the server."""
        if self._looking is not None:
            self._looking.cancel()
        self._drop()

    async def _try(
        self, work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[Answer]]
    ) -> Answer:
        try:
            connection = await self._connected()
        except NOT_REACHED as error:
            raise _TroubleError from error
        try:
            return await work(connection)
        except asyncpg.QueryCanceledError as error:
            if self._limits.tries_again:
                raise _TroubleError from error
            raise Unavailable(
                "READ_TOO_LONG",
                "the database took too long over this; ask again later",
                retry_after_s=RETRY_AFTER_S,
            ) from error
        except NO_MEANS as error:
            logger().warning("database without means", session=self._name, error=repr(error))
            raise Unavailable(
                "DATABASE_UNAVAILABLE",
                "the database has no room for this now; nothing was done",
                retry_after_s=RETRY_AFTER_S,
            ) from error
        except ROLLED_BACK as error:
            raise _TroubleError from error
        except LOST as error:
            if is_unsendable(error):
                raise
            self._drop()
            raise _TroubleError from error

    def _refuse_while_away(self) -> None:
        if self._looking is not None:
            raise Unavailable(
                "DATABASE_UNAVAILABLE",
                "the database is away; nothing was done",
                retry_after_s=RETRY_AFTER_S,
            )

    def _look_for_it(self) -> None:
        logger().error("database away", session=self._name)
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            # Whatever is wrong, nobody but this task would find out that it is over.
            with contextlib.suppress(Exception):
                await self._connected()
                break
        self._looking = None
        logger().warning("database back", session=self._name)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.terminate()

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            made = await asyncpg.connect(
                self._url,
                timeout=CONNECT_S,
                command_timeout=self._limits.answer_s,
                server_settings=SETTINGS,
                # One that can only be read may be behind: what it shows is not the truth.
                target_session_attrs=SessionAttribute.read_write,
            )
            try:
                for statement in self._limits.settings(made.get_server_version().major):
                    await made.execute(statement)
                if self._on_connect is not None:
                    await self._on_connect(made)
            except BaseException:
                made.terminate()
                raise
            self._connection = made
        return self._connection
