"""What work costs in messages and statements: told by the bus and the database themselves."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import nats
from nats.aio.msg import Msg

from services.cli.logic.home import Home
from tests.clouds import Cloud

DATABASE = """
SELECT xact_commit, xact_rollback, (pg_current_wal_lsn() - '0/0')::bigint
  FROM pg_stat_database WHERE datname = current_database()
"""


def database(of: Cloud) -> dict[str, int]:
    """Transactions (each statement of the conductor is one) and bytes of write-ahead log so far."""
    commits, rollbacks, wal = of.sql(DATABASE).split("|")
    return {"transactions": int(commits) + int(rollbacks), "wal_bytes": int(wal)}


def each(before: dict[str, int], after: dict[str, int], units: int) -> dict[str, float]:
    """How much came with each of `units`."""
    return {name: round((after[name] - before[name]) / max(1, units), 2) for name in after}


@contextlib.asynccontextmanager
async def ear(of: Cloud) -> AsyncIterator[Counter[str]]:
    """Counts what passes the bus while it is open: messages by the last word of their subject, and
    their bytes as `bytes`.
    """
    heard: Counter[str] = Counter()

    async def on_message(message: Msg) -> None:
        heard[message.subject.rpartition(".")[2]] += 1
        heard["bytes"] += len(message.data)

    user, _, password = Home(of.home).nats_credential_file.read_text().strip().partition(":")
    url = of.services()["nats"][0]["endpoint"]
    connected = await nats.connect(url, user=user, password=password)
    try:
        await connected.subscribe("stead.>", cb=on_message)
        await connected.flush()
        yield heard
        await connected.flush()
    finally:
        await connected.close()
