"""The store over PostgreSQL: five sessions, so that commits, leases, looks at single things,
pages and audits never wait for each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import asyncpg

from services.conductor.edges.store import due, log, pages, queries
from services.conductor.edges.store.audits import PostgresAudits
from services.conductor.edges.store.bounds import USUAL_BOUNDS, Bounds
from services.conductor.edges.store.commit import CHECK, COMMIT, Way, commit
from services.conductor.edges.store.session import READS, Session
from services.conductor.edges.store.stretch import Terms
from services.conductor.flows.ports import (
    BeatAnswer,
    ChangePage,
    Due,
    OperationCount,
    Page,
    Query,
    View,
)
from services.conductor.logic.items import Item, Outcome, RequestKey
from services.conductor.logic.leases import LEASE_S, Beat, Lease, Leases, Road, gap_s
from services.conductor.logic.paces import USUAL_PACES, Paces
from services.conductor.logic.rows import CatalogRow, HostRow, ProjectRow, Situation
from services.domain.errors import Unavailable
from services.domain.ids import is_row_id
from services.domain.kinds import ClaimRole, HostState, ResourceKind
from services.domain.resources import UNLIMITED, QuotaAmounts
from services.runtime.log import logger

REQUEST = """
SELECT fingerprint, resource_id, operation_id FROM request
 WHERE project_id = $1 AND caller = $2 AND method = $3 AND request_id = $4::uuid
"""

# An unknown or older incarnation renews nothing. The answer keeps the order of the beats. A host
# with a claim of role $3 is behind until that is gone, or kept and told of in its life: nobody
# sends it commands about such a claim. A fenced incarnation is over.
RENEW = """
WITH beat AS (
    SELECT b.host_id, b.incarnation, b.bus_silent, b.place
      FROM unnest($1::text[], $2::bigint[], $3::boolean[])
           WITH ORDINALITY AS b (host_id, incarnation, bus_silent, place)
), renewed AS (
    INSERT INTO lease (host_id, incarnation, beat_at, bus_silent_for)
    SELECT DISTINCT ON (h.id) h.id, h.incarnation, now(),
           CASE WHEN b.bus_silent THEN h.incarnation ELSE 0 END
      FROM beat b JOIN host h ON h.id = b.host_id AND h.incarnation = b.incarnation
       AND h.fenced <> b.incarnation
     ORDER BY h.id, b.place DESC
        ON CONFLICT (host_id) DO UPDATE SET incarnation = excluded.incarnation,
           beat_at = excluded.beat_at, bus_silent_for = excluded.bus_silent_for
    RETURNING host_id
), heard AS (
    UPDATE road SET last_at = greatest(last_at, now()),
           since_at = CASE WHEN now() - last_at > make_interval(secs => $5) THEN now()
                           ELSE since_at END
     WHERE kind = 2 OR EXISTS (SELECT FROM renewed)
)
SELECT (h.incarnation IS DISTINCT FROM b.incarnation OR h.fenced = b.incarnation) AS superseded,
       coalesce((SELECT max(CASE WHEN c.role = $4 AND (c.discard OR c.incarnation <> h.incarnation)
                                 THEN n.revision ELSE c.wanted_revision END)
                   FROM claim c, counter n WHERE c.host_id = b.host_id), 0) AS wanted_revision
  FROM beat b LEFT JOIN host h ON h.id = b.host_id ORDER BY b.place
"""

LEASES = """
SELECT h.id, h.state, h.fenced = h.incarnation AS fenced,
       coalesce(l.bus_silent_for = h.incarnation, false) AS bus_silent,
       coalesce(extract(epoch FROM now() - l.beat_at)::float8, 'infinity') AS silent_s
  FROM host h LEFT JOIN lease l ON l.host_id = h.id WHERE NOT h.deleted
"""

ROADS = """
SELECT extract(epoch FROM now() - since_at)::float8 AS since_s,
       extract(epoch FROM now() - last_at)::float8 AS last_s
  FROM road ORDER BY kind
"""

SILENCES = """
SELECT host_id, extract(epoch FROM now() - beat_at)::float8 AS silent_s
  FROM lease WHERE host_id = ANY ($1::text[])
"""

EPOCHS = """
SELECT w.id::text AS id, greatest(max(c.epoch), max(i.epoch)) AS epoch
  FROM unnest($1::uuid[]) AS w (id)
  LEFT JOIN claim c ON c.instance_id = w.id LEFT JOIN instance i ON i.id = w.id
 GROUP BY w.id HAVING greatest(max(c.epoch), max(i.epoch)) > 0
"""

HISTORY = "SELECT history, anew FROM follow_history($1)"


class PostgresStore:
    """Implements `flows.ports.Store`. `usual_limits` hold for projects without their own.

    `history_id` is what this conductor tells its followers; empty takes what the first connection
    finds. When a later one finds another, the database was set back under the conductor:
    `on_history` is called and everything is refused from then on, for what it remembers and
    publishes is of a history that has ended. Source: MECHANICS E3.
    """

    def __init__(  # noqa: PLR0913  # each is a setting
        self,
        url: str,
        *,
        usual_limits: QuotaAmounts = UNLIMITED,
        history_id: str = "",
        on_history: Callable[[], None] = lambda: None,
        bounds: Bounds = USUAL_BOUNDS,
        lease_s: float = LEASE_S,
        paces: Paces = USUAL_PACES,
    ) -> None:
        self._lease_s = lease_s
        self._paces = paces
        self._usual = usual_limits
        self._terms = Terms(usual_limits, bounds)
        self._history_id = history_id
        self._on_history = on_history
        self._width = bounds.partition
        self._commits = Session(url, "commits", self._connected)
        self._quiet = Session(url, "leases and looks", self._connected)
        self._reads = Session(url, "reads", self._connected, limits=READS)
        self._pages = Session(url, "pages", self._connected, limits=READS)
        self._audits = Session(url, "audits", self._connected, limits=READS)
        self.audits = PostgresAudits(self._audits, self._quiet)

    async def _connected(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        row = await connection.fetchrow(HISTORY, self._width)
        assert row is not None
        if row["anew"]:
            logger().warning("the database was set back; a new history begins", id=row["history"])
        self._history_id = self._history_id or row["history"]
        if row["history"] != self._history_id:
            self._on_history()
            raise Unavailable("DATABASE_UNAVAILABLE", "the database is of another history now")

    async def items_commit(self, items: Sequence[Item]) -> list[Outcome]:
        """The one commit path."""
        way = Way(COMMIT, self._usual)
        return await self._commits.run(lambda connection: commit(connection, items, way))

    async def items_check(self, items: Sequence[Item]) -> list[Outcome]:
        """What items_commit would answer now."""
        way = Way(CHECK, self._usual)
        return await self._commits.run(lambda connection: commit(connection, items, way))

    async def situations_read(self, instance_ids: Sequence[str]) -> dict[str, Situation]:
        """Everything that decides about these instances."""
        return await self._reads.run(lambda c: queries.situations(c, instance_ids))

    async def catalog_read(
        self, wanted: Sequence[tuple[ResourceKind, str]]
    ) -> dict[tuple[ResourceKind, str], CatalogRow]:
        """Living entries by id."""
        return await self._reads.run(lambda c: queries.catalog(c, wanted))

    async def records_read(self, queries_: Sequence[Query]) -> list[Page]:
        """Records as of the newest commit or the pinned one."""
        singles = [query for query in queries_ if not query.is_page]
        found = iter(await self._records(self._reads, singles) if singles else ())
        # A page may take many statements: whoever waits has a turn after each.
        return [
            (await self._records(self._pages, [query]))[0] if query.is_page else next(found)
            for query in queries_
        ]

    async def _records(self, session: Session, queries_: Sequence[Query]) -> list[Page]:
        return await session.run(lambda c: pages.answers(c, queries_, self._terms))

    async def projects_read(self, project_ids: Sequence[str]) -> dict[str, ProjectRow]:
        """Projects that live or use something."""
        return await self._reads.run(lambda c: queries.projects(c, project_ids))

    async def operations_count(self) -> list[OperationCount]:
        """Operations under way, counted."""
        return await self._quiet.run(queries.operations_count)

    async def request_read(self, key: RequestKey) -> RequestKey | None:
        """The remembered request, if there is one."""
        row = await self._reads.run(
            lambda c: c.fetchrow(REQUEST, key.project_id, key.caller, key.method, key.request_id)
        )
        if row is None:
            return None
        return replace(
            key,
            fingerprint=row["fingerprint"],
            resource_id=row["resource_id"],
            operation_id=row["operation_id"],
        )

    async def changes_read(self, after_revision: int, limit: int) -> ChangePage:
        """The change log above a revision, the head, and from where the log is whole."""
        return await self._reads.run(
            lambda c: log.changes(c, after_revision, limit, usual=self._usual)
        )

    async def log_tend(self, keep_s: float, bytes_max: int) -> None:
        """Partitions of the change log ahead, and old ones gone."""
        await self._quiet.run(lambda c: log.tend(c, keep_s, bytes_max, width=self._width))

    async def hosts_read(self, host_ids: Sequence[str]) -> dict[str, HostRow]:
        """Hosts by id."""
        return await self._reads.run(lambda c: queries.hosts(c, host_ids))

    async def host_view_read(self, host_id: str) -> View | None:
        """The view of a host in one snapshot."""
        return await self._reads.run(lambda c: queries.view(c, host_id))

    async def leases_renew(self, beats: Sequence[Beat]) -> list[BeatAnswer]:
        """Renews leases of live incarnations."""
        columns = (
            [beat.host_id for beat in beats],
            [beat.incarnation for beat in beats],
            [beat.bus_silent for beat in beats],
        )
        rows = await self._quiet.run(
            lambda c: c.fetch(RENEW, *columns, ClaimRole.LEAVING, gap_s(self._lease_s))
        )
        return [BeatAnswer(row["superseded"], row["wanted_revision"]) for row in rows]

    async def leases_read(self) -> Leases:
        """All hosts, and the roads on which they are heard."""

        async def read(connection: "asyncpg.Connection[asyncpg.Record]") -> Leases:
            # The roads first: who was heard after that counts for nobody's silence.
            hosts, apis = await connection.fetch(ROADS)
            rows = await connection.fetch(LEASES)
            return Leases(
                tuple(
                    Lease(
                        row["id"],
                        HostState(row["state"]),
                        row["fenced"],
                        row["silent_s"],
                        row["bus_silent"],
                    )
                    for row in rows
                ),
                Road(hosts["since_s"], hosts["last_s"]),
                Road(apis["since_s"], apis["last_s"]),
            )

        return await self._quiet.run(read)

    async def silences_read(self, host_ids: Sequence[str]) -> dict[str, float]:
        """How long these hosts have been silent."""
        rows = await self._quiet.run(lambda c: c.fetch(SILENCES, list(host_ids)))
        return {row["host_id"]: row["silent_s"] for row in rows}

    async def epochs_read(self, instance_ids: Sequence[str]) -> dict[str, int]:
        """The highest epoch of each instance."""
        known = list(filter(is_row_id, instance_ids))
        rows = await self._reads.run(lambda c: c.fetch(EPOCHS, known))
        return {row["id"]: row["epoch"] for row in rows}

    async def requests_sweep(self, keep_s: float, limit: int) -> int:
        """Forgets requests that are old enough."""
        return await self._quiet.run(lambda c: due.sweep(c, keep_s, limit))

    async def operations_take(self, limit: int, ahead_s: float = 0.0) -> list[Due]:
        """Due operations, their next look moved on."""
        return await self._quiet.run(lambda c: due.take(c, limit, ahead_s, self._paces))

    async def close(self) -> None:
        """Drops all connections."""
        for session in (self._commits, self._quiet, self._reads, self._pages, self._audits):
            await session.close()
