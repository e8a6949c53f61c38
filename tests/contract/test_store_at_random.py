"""The ledger, quotas, remembered requests and the change log on PostgreSQL, beside a model of a few
lines: whatever is asked in whatever order, both say the same.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.conductor.edges.store.postgres import PostgresStore
from services.conductor.flows.ports import Query
from services.conductor.logic import lifecycle
from services.conductor.logic.items import ClaimAct, ClaimChange, Committed, Item, Record
from services.domain.instance import Standing, State, Task
from services.domain.kinds import ResourceKind
from services.domain.resources import QuotaAmounts, Resources
from services.runtime.ids import new_id
from tests.engines import Postgres
from tests.examples import examples
from tests.stores import create, host, new_database, project, refusals
from tests.unit.conductor.situations import instance

ONE = Resources(1, 100, 1)
NAMES = st.sampled_from("abcdef")
SOME = st.integers(min_value=0, max_value=5)
_serial = itertools.count()
Answer = TypeVar("Answer")


@dataclass
class Living:
    """An instance of the model."""

    project: str
    name: str
    host: str = ""


class StoreBesideModel(RuleBasedStateMachine):
    """Projects, hosts and names are new in each run, so that all can share one database."""

    store: PostgresStore
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        serial = next(_serial)
        self.projects = [f"p{serial}", f"q{serial}"]
        self.hosts = [f"g{serial}", f"h{serial}"]
        self.limits = {self.projects[0]: 3, self.projects[1]: 2}
        self.targets = dict.fromkeys(self.hosts, 1)
        self.living: dict[str, Living] = {}
        self.made: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.start = self._head()
        self.expected = 0
        for id_ in self.projects:
            row = replace(project(id_), limits=QuotaAmounts(self.limits[id_], -1, -1, -1))
            assert self._commit([Item(project=row)]) == [""]
        for id_ in self.hosts:
            assert self._commit([Item(host=host(id_, Resources(1, 1000, 100)))]) == [""]

    @rule(place=SOME, name=NAMES)
    def create_one(self, place: int, name: str) -> None:
        """A create is accepted if its name is free and the quota allows it."""
        project_id = self.projects[place % 2]
        self._create(project_id, name, new_id(), b"f")

    @precondition(lambda self: self.made)
    @rule(place=SOME, name=NAMES, same=st.booleans())
    def create_again(self, place: int, name: str, same: bool) -> None:
        """A request that was accepted gives what it made, or is refused with another payload."""
        project_id, request_id = list(self.made)[place % len(self.made)]
        known, made_id = self.made[project_id, request_id]
        row = instance(name, project_id=project_id)
        item = create(row, request_id, known if same else b"other")
        (outcome,) = self._run(self.store.items_commit([item]))
        assert refusals([outcome]) == ["REPLAYED" if same else "REQUEST_ID_REUSED"]
        if same:
            assert not isinstance(outcome, Committed)
            assert outcome.resource_id == made_id

    @rule(place=SOME, names=st.lists(NAMES, min_size=2, max_size=5, unique=True))
    def create_many(self, place: int, names: list[str]) -> None:
        """Of a batch those are accepted that would be one after the other."""
        project_id = self.projects[place % 2]
        rows = [instance(name, project_id=project_id) for name in names]
        items = [create(row) for row in rows]
        allowed = []
        for row in rows:
            refusal = self._refusal(project_id, row.name)
            allowed.append(refusal)
            if not refusal:
                self.living[row.id] = Living(project_id, row.name)
                self.expected += 2
        got = refusals(self._run(self.store.items_commit(items)))
        assert [bool(g) for g in got] == [bool(a) for a in allowed], (got, allowed)

    @precondition(lambda self: self._homeless())
    @rule(place=SOME, count=st.sampled_from([1, 4]))
    def claim(self, place: int, count: int) -> None:
        """A batch of claims on one host: as many as it has room for, in their order."""
        host_id, chosen = self.hosts[place % 2], self._homeless()[:count]
        situations = self._run(self.store.situations_read(chosen))
        items = [lifecycle.claimed(situations[id_], host_id, 2.0) for id_ in chosen]
        room = max(0, self.targets[host_id] - self._used(host_id))
        fitting = chosen[:room]
        got = self._commit([item for item in items if item is not None])
        assert got == ["" if id_ in fitting else "NO_ROOM" for id_ in chosen]
        for id_ in fitting:
            self.living[id_].host = host_id
        self.expected += 2 * len(fitting) + bool(fitting)

    @precondition(lambda self: self.living)
    @rule(place=SOME)
    def end(self, place: int) -> None:
        """An end gives back name, quota and room at once; the operation of the create ends too."""
        id_ = list(self.living)[place % len(self.living)]
        situation = self._run(self.store.situations_read([id_]))[id_]
        gone = Standing(State.DELETED, Task.NONE)
        claims = tuple(
            ClaimChange(ClaimAct.REMOVE, id_, claim.host_id, ONE, claim.epoch)
            for claim in situation.claims
        )
        item = Item(instance=replace(situation.instance, standing=gone), claims=claims)
        assert self._commit([item]) == [""]
        assert self._commit([item]) != [""], "an item of an old version has no second effect"
        del self.living[id_]
        self.expected += 1 + len(claims)

    @rule(place=SOME, vcpus=st.integers(min_value=0, max_value=4))
    def resize_host(self, place: int, vcpus: int) -> None:
        """A host may shrink below what is used; nothing new fits then."""
        host_id = self.hosts[place % 2]
        known = self._run(self.store.hosts_read([host_id]))[host_id]
        row = replace(known, target=Resources(vcpus, 1000, 100))
        assert self._commit([Item(host=row)]) == [""]
        self.targets[host_id] = vcpus
        self.expected += 1

    @rule(place=SOME, limit=st.integers(min_value=0, max_value=4))
    def limit_project(self, place: int, limit: int) -> None:
        """A limit may fall below what is used; nothing new is accepted then."""
        project_id = self.projects[place % 2]
        known = self._run(self.store.projects_read([project_id]))[project_id]
        row = replace(known, limits=QuotaAmounts(limit, -1, -1, -1))
        assert self._commit([Item(project=row)]) == [""]
        self.limits[project_id] = limit
        self.expected += 1

    @invariant()
    def use_is_what_lives(self) -> None:
        """Quotas and ledgers are sums."""
        known = self._run(self.store.projects_read(self.projects))
        for id_ in self.projects:
            assert known[id_].used.instances == self._count(id_)
        for record in self._newest(ResourceKind.HOST).values():
            used = self._used(record.id)
            assert record.ledger == (
                self.targets[record.id],
                1000,
                100,
                used,
                used * 100,
                used,
                used,
            )

    @invariant()
    def the_log_tells_everything_once(self) -> None:
        """Revisions and versions have no gap, as many as were committed, and what the log tells
        last is what a list shows.
        """
        log = self._log()
        assert [one.revision for one in log] == [self.start + n + 1 for n in range(len(log))]
        assert len(log) == len(self.projects) + len(self.hosts) + self.expected
        versions: dict[tuple[ResourceKind, str], int] = {}
        for one in log:
            assert one.version == versions.get((one.kind, one.id), 0) + 1
            versions[one.kind, one.id] = one.version
        alive = {r.id: r for r in self._newest(ResourceKind.INSTANCE).values() if not r.deleted}
        assert alive.keys() == self.living.keys()
        for project_id in self.projects:
            query = Query(ResourceKind.INSTANCE, "", project_id, "", 99)
            (page,) = self._run(self.store.records_read([query]))
            assert {r.id: (r.version, r.body) for r in page.records} == {
                r.id: (r.version, r.body) for r in alive.values() if r.project_id == project_id
            }

    def _create(self, project_id: str, name: str, request_id: str, payload: bytes) -> None:
        row = instance(name, project_id=project_id)
        refusal = self._refusal(project_id, name)
        got = self._commit([create(row, request_id, payload)])
        assert bool(got[0]) == bool(refusal)
        assert not refusal or got[0] in refusal
        if not refusal:
            self.living[row.id] = Living(project_id, name)
            self.made[project_id, request_id] = (payload, row.id)
            self.expected += 2

    def _refusal(self, project_id: str, name: str) -> set[str]:
        names = {one.name for one in self.living.values() if one.project == project_id}
        found = {"NAME_TAKEN"} if name in names else set()
        return found | (
            {"NO_QUOTA"} if self._count(project_id) >= self.limits[project_id] else set()
        )

    def _count(self, project_id: str) -> int:
        return sum(one.project == project_id for one in self.living.values())

    def _used(self, host_id: str) -> int:
        return sum(one.host == host_id for one in self.living.values())

    def _homeless(self) -> list[str]:
        return [id_ for id_, one in self.living.items() if not one.host]

    def _newest(self, kind: ResourceKind) -> dict[str, Record]:
        return {one.id: one for one in self._log() if one.kind is kind}

    def _log(self) -> list[Record]:
        return list(self._run(self.store.changes_read(self.start, 1000)).records)

    def _head(self) -> int:
        return int(self._run(self.store.changes_read(0, 1)).head_revision)

    def _commit(self, items: list[Item]) -> list[str]:
        return refusals(self._run(self.store.items_commit(items)))

    def _run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)


@pytest.fixture(scope="module")
def machine(server: Postgres) -> Iterator[type[StoreBesideModel]]:
    """Over a store with a database of its own."""
    with asyncio.Runner() as runner:
        store = PostgresStore(server.url(runner.run(new_database(server))))
        yield type("OverPostgres", (StoreBesideModel,), {"store": store, "runner": runner})
        runner.run(store.close())


def test_the_store_and_a_model_of_it_say_the_same(machine: type[StoreBesideModel]) -> None:
    """In every order of commits."""
    few = settings(max_examples=examples(300), stateful_step_count=20, deadline=None)
    run_state_machine_as_test(machine, settings=few)
