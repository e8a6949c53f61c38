"""Remembered requests are forgotten after seven days, in small pieces; not before, and never a
batch before its items. Source: MECHANICS B6.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.conductor.config import REQUEST_KEEP_S
from services.conductor.flows.answer import Asked
from services.conductor.flows.sweep import PIECE, Sweeper
from services.domain.errors import AlreadyExists, Invalid
from services.runtime.ids import new_id
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Sent, asked, catalog, conductor, new_instance

DAY_S = 86_400
KEEP_S = 7 * DAY_S


def aged(place: Place, request_id: str, age_s: float, method: str = "%") -> None:
    place.sql(
        f"UPDATE request SET created_at = now() - make_interval(secs => {age_s})"
        f" WHERE request_id = '{request_id}' AND method LIKE '{method}'"
    )


def count(place: Place, request_id: str) -> int:
    return int(place.sql(f"SELECT count(*) FROM request WHERE request_id = '{request_id}'"))


def test_a_request_is_remembered_for_seven_days() -> None:
    assert REQUEST_KEEP_S == KEEP_S


async def test_old_requests_are_forgotten_and_count_as_new_then(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made)
        old, young = asked(), asked()
        first = await made.instances.create(old, new_instance("old", ids))
        kept = await made.instances.create(young, new_instance("young", ids))
        aged(place, old.request_id, KEEP_S + 60)
        aged(place, young.request_id, KEEP_S - 60)
        assert await Sweeper(made.store, KEEP_S).sweep() == 1
        assert (count(place, old.request_id), count(place, young.request_id)) == (0, 1)
        again = await made.instances.create(young, new_instance("young", ids))
        assert again.operation.id == kept.operation.id
        with pytest.raises(Invalid, match="another payload"):
            await made.instances.create(replace(young, fingerprint=b"x"), new_instance("y", ids))
        # The replay of what was forgotten is a new wish: its name is taken, another is not.
        with pytest.raises(AlreadyExists):
            await made.instances.create(old, new_instance("old", ids))
        new = await made.instances.create(old, new_instance("old-2", ids))
        assert new.resource.id != first.resource.id
        assert await Sweeper(made.store, KEEP_S).sweep() == 0


async def test_a_batch_is_forgotten_after_its_items(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made)
        batch: Asked = asked()
        for n in range(3):
            await made.instances.create_of_batch(batch, new_instance(f"b{n}", ids), n)
        assert count(place, batch.request_id) == 4
        aged(place, batch.request_id, KEEP_S + 60)
        aged(place, batch.request_id, KEEP_S - 60, "%#2")
        sweeper = Sweeper(made.store, KEEP_S)
        for _ in range(3):
            await sweeper.sweep()
        assert count(place, batch.request_id) == 2, "the item that is young, and its batch"
        other = replace(batch, fingerprint=b"another")
        with pytest.raises(Invalid):
            await made.instances.create_of_batch(other, new_instance("c", ids), 0)
        aged(place, batch.request_id, KEEP_S + 60)
        await sweeper.sweep()
        await sweeper.sweep()
        assert count(place, batch.request_id) == 0


@dataclass
class Counted:
    """The store, with the size of each piece that was swept."""

    place: Place
    pieces: list[int] = field(default_factory=list)

    async def requests_sweep(self, keep_s: float, limit: int) -> int:
        assert limit == PIECE
        self.pieces.append(await self.place.store.requests_sweep(keep_s, limit))
        return self.pieces[-1]


async def test_much_that_is_old_goes_piece_by_piece(place: Place) -> None:
    place.sql(
        "INSERT INTO request (project_id, caller, method, request_id, fingerprint, resource_id,"
        " operation_id, created_at) SELECT 'p', 'me', 'Create', gen_random_uuid(), '', '', '',"
        " now() - interval '8 days' FROM generate_series(1, 1700)"
    )
    counted = Counted(place)
    assert await Sweeper(counted, KEEP_S).sweep() == 1700
    assert counted.pieces == [500, 500, 500, 200]


ROWS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 14)), max_size=12
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ROWS)
async def test_whatever_is_remembered_only_the_old_goes_and_no_item_outlives_its_batch(
    place: Place, rows: list[tuple[str, int, int]]
) -> None:
    """Rows of two batches, each (batch, item or 0 for the batch itself, age in days)."""
    place.sql("TRUNCATE request")
    request_ids = {name: new_id() for name in "ab"}
    wanted: dict[tuple[str, int], int] = {}
    for name, item, days in rows:
        wanted.setdefault((name, item), days)
    for (name, item), days in wanted.items():
        method = f"Batch#{item}" if item else "Batch"
        place.sql(
            "INSERT INTO request VALUES ('p', 'me', "
            f"'{method}', '{request_ids[name]}', '', '', '', now() - interval '{days} days 1 hour')"
        )
    for _ in range(2):
        await Sweeper(place.store, KEEP_S).sweep()
    left = {
        tuple(line.split("|"))
        for line in place.sql("SELECT request_id, method FROM request").splitlines()
    }
    young = {at for at, days in wanted.items() if days < 7}
    expected = young | {
        at for at in wanted if at[1] == 0 and any(name == at[0] and item for name, item in young)
    }
    assert left == {
        (request_ids[name], f"Batch#{item}" if item else "Batch") for name, item in expected
    }
