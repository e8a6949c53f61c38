"""One connection to PostgreSQL for the life of the process, made again whenever it breaks.

Owns timeouts, reconnecting and what is tried again. Every caller is safe to be tried again: items
have natural keys (MECHANICS A5), reads and leases are idempotent. Does not pool: a lane owns its
session.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import asyncpg

from services.domain.errors import Unavailable
from services.runtime.log import logger

Answer = TypeVar("Answer")

TRY_FOR_S = 4.0
PAUSE_S = 0.1
SETTINGS = {
    "lock_timeout": "3s",
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
    """How long one statement may take, and one transaction, which only newer servers bound; and
    whether a statement that took too long is tried again.
    """

    statement_ms: int
    transaction_ms: int
    tries_again: bool

    def settings(self, release: int) -> list[str]:
        """The statements that set what a server of this release knows."""
        told = [f"SET statement_timeout = {self.statement_ms}"]
        since_17 = [f"SET transaction_timeout = {self.transaction_ms}"]
        return told + (since_17 if release >= 17 else [])


WRITES = Limits(5000, 6000, tries_again=True)
# One open snapshot makes commits fall to a quarter. Source: MECHANICS A6.
READS = Limits(1900, 2000, tries_again=False)

# The connection, or the server behind it, went away: the outcome of what was sent is unknown.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.CrashShutdownError,
    asyncpg.InvalidTransactionStateError,
    # A standby that is not promoted yet.
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
    ConnectionError,
    OSError,
    TimeoutError,
)
# The statement was rolled back whole by the server and may be tried as it was.
ROLLED_BACK = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InsufficientResourcesError,
)


class Session:
    """Runs work on its own connection, one piece at a time; `on_connect` is called with each new
    one before it is used.
    """

    def __init__(
        self,
        url: str,
        name: str,
        on_connect: Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[None]] | None = None,
        *,
        limits: Limits = WRITES,
    ) -> None:
        self._url = url
        self._name = name
        self._limits = limits
        self._on_connect = on_connect
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._turn = asyncio.Lock()
        self._away = False

    async def run(
        self, work: Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[Answer]]
    ) -> Answer:
        """`work(connection)`, tried again for a few seconds while the database is away.

        Raises Unavailable (DATABASE_UNAVAILABLE) after that, and then at once until the database is
        back, Unavailable (READ_TOO_LONG) where what took too long is not tried again; errors of the
        statement itself as they are.
        """
        async with self._turn:
            loop = asyncio.get_running_loop()
            give_up_at = loop.time() + (0 if self._away else TRY_FOR_S)
            while True:
                try:
                    answer = await work(await self._connected())
                    self._away = False
                    return answer
                except LOST as error:
                    await self.close()
                    trouble: Exception = error
                except asyncpg.QueryCanceledError as error:
                    if not self._limits.tries_again:
                        raise Unavailable(
                            "READ_TOO_LONG",
                            "the database took too long over this; ask again later",
                            retry_after_s=1.0,
                        ) from error
                    trouble = error
                except ROLLED_BACK as error:
                    trouble = error
                if loop.time() >= give_up_at:
                    self._away = isinstance(trouble, LOST)
                    raise Unavailable(
                        "DATABASE_UNAVAILABLE",
                        "the database cannot be reached; nothing was changed that was not answered",
                        retry_after_s=1.0,
                    ) from trouble
                logger().warning("database trouble", session=self._name, error=repr(trouble))
                await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Drops the connection without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.terminate()

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            made = await asyncpg.connect(
                self._url, timeout=5, command_timeout=8, server_settings=SETTINGS
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
