"""Random histories of a store, and what the change log says of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from random import Random

from services.conductor.flows.ports import Query, Store
from services.conductor.logic import lifecycle
from services.conductor.logic.items import Item, Record
from services.conductor.logic.rows import CatalogRow, KeyPairRow, ProjectRow, Situation
from services.domain.instance import Power, Standing, State, Task
from services.domain.kinds import ResourceKind
from tests.stores import create, flavor, host, key_pair, project
from tests.unit.conductor.situations import instance

NAMES = "abcdefgh"
PROJECTS = "pq"


class History:
    """Commits at random: what does not fit is refused, as between conductors."""

    def __init__(self, store: Store, random: Random) -> None:
        self._store = store
        self._random = random
        self._instances: list[str] = []
        self._entries: list[tuple[ResourceKind, str]] = []
        self._steps: list[Callable[[], Awaitable[Item | None]]] = [
            self._creation, self._creation, self._creation, self._change, self._change,
            self._change, self._claim, self._end, self._entry, self._entry_end, self._host,
            self._project, self._project_end,
        ]  # fmt: skip

    async def go_on(self, commits: int = 3) -> None:
        """Some more commits of one to three items."""
        for _ in range(commits):
            steps = self._random.choices(self._steps, k=self._random.randint(1, 3))
            items = [await step() for step in steps]
            await self._store.items_commit([item for item in items if item is not None])

    async def _creation(self) -> Item:
        row = instance(self._name(), project_id=self._random.choice(PROJECTS))
        self._instances.append(row.id)
        return create(row)

    async def _change(self) -> Item | None:
        situation = await self._some()
        if situation is None:
            return None
        row, name = situation.instance, self._random.choice([situation.instance.name, self._name()])
        labels = self._random.choice([{}, {"a": "b"}, {"a": "c"}])
        power = self._random.choice([Power.RUNNING, Power.OFF])
        return Item(instance=replace(row, name=name, labels=labels, power=power), wants=True)

    async def _claim(self) -> Item | None:
        situation = await self._some()
        if situation is None or situation.holder is not None:
            return None
        return lifecycle.claimed(situation, self._random.choice(["h1", "h2"]), 2.0)

    async def _end(self) -> Item | None:
        situation = await self._some()
        if situation is None:
            return None
        ended = Standing(State.DELETED, Task.NONE)
        return Item(instance=replace(situation.instance, standing=ended))

    async def _entry(self) -> Item:
        row: CatalogRow = flavor(self._name())
        if self._random.random() < 0.5:
            row = key_pair(self._name())
        kind = ResourceKind.KEY_PAIR if isinstance(row, KeyPairRow) else ResourceKind.FLAVOR
        self._entries.append((kind, row.id))
        return Item(entry=row)

    async def _entry_end(self) -> Item | None:
        found = await self._store.catalog_read(self._entries)
        if not found:
            return None
        return Item(entry=replace(self._random.choice(list(found.values())), deleted=True))

    async def _host(self) -> Item:
        host_id = self._random.choice(["h1", "h2"])
        known = (await self._store.hosts_read([host_id])).get(host_id)
        if known is None:
            return Item(host=host(host_id))
        enabled = self._random.random() < 0.5
        return Item(host=replace(known, enabled=enabled, disabled_reason="" if enabled else "why"))

    async def _project(self) -> Item:
        row = await self._known_project()
        return Item(project=replace(row, display_name=self._name()))

    async def _project_end(self) -> Item:
        return Item(project=replace(await self._known_project(), deleted=True))

    async def _known_project(self) -> ProjectRow:
        project_id = self._random.choice([*PROJECTS, "empty"])
        known = await self._store.projects_read([project_id])
        return known.get(project_id, project(project_id))

    async def _some(self) -> Situation | None:
        if not self._instances:
            return None
        some = self._random.choice(self._instances)
        situation = (await self._store.situations_read([some])).get(some)
        return None if situation is None or situation.instance.deleted else situation

    def _name(self) -> str:
        return self._random.choice(NAMES)


def folded(records: Sequence[Record], revision: int) -> dict[tuple[ResourceKind, str], Record]:
    """The newest record of everything, up to a revision."""
    return {(one.kind, one.id): one for one in records if one.revision <= revision}


async def listed(
    store: Store, query: Query, at: int, *, between: Callable[[], Awaitable[None]]
) -> tuple[list[Record], int]:
    """All pages of a list that is true to `at`, 0 for now, with something done between them; and
    what they are true to.
    """
    found: list[Record] = []
    query = replace(query, pinned_revision=at)
    while True:
        (page,) = await store.records_read([query])
        found += page.records
        assert len(page.records) <= query.limit
        if not page.more:
            return found, page.revision
        query = replace(
            query,
            pinned_revision=page.revision,
            after_id=page.last_id,
            after_key=page.last_key,
        )
        await between()


def told_alike(found: Sequence[Record], expected: Sequence[Record]) -> bool:
    """Whether two lists say the same, but for what only changes carry: the version before, and
    of projects what they use at that moment.
    """
    return [_bare(one) for one in found] == [_bare(one) for one in expected]


def _bare(one: Record) -> Record:
    return replace(one, before=None, quota=None)
