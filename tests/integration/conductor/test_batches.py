"""Two batches under one request id: of one at most anything is made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from stead.internal.v1 import conductor_pb2
from stead.v1 import instance_pb2

from services.runtime.ids import new_id
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Sent, asked, catalog, conductor
from tests.integration.conductor.flows import new_instance as new
from tests.integration.conductor.test_flow import check_books
from tests.integration.conductor.wishes import mutation, send

REUSED = "REQUEST_ID_REUSED"
NOWHERE = "01890000-0000-7000-8000-000000000000"


def batch(
    request_id: str, names: Sequence[str], ids: tuple[str, str], *, dry: bool = False
) -> list[conductor_pb2.Mutation]:
    """One wish per name, as api sends a batch."""
    return [
        mutation(
            "batched_create",
            conductor_pb2.BatchedCreate(
                create=instance_pb2.CreateInstanceRequest(
                    request_id=request_id, name=name, flavor_id=ids[0], image_id=ids[1],
                    validate_only=dry,
                ),
                index=n,
                fingerprint=" ".join((*names, ids[0])).encode(),
            ),
        )
        for n, name in enumerate(names)
    ]  # fmt: skip


def reasons(results: Sequence[Any]) -> list[str]:
    return [result.error.reason for result in results]


def names_of(place: Place) -> set[str]:
    return set(place.sql("SELECT name FROM instance").split())


async def test_another_batch_makes_nothing_even_where_the_first_ones_first_was_refused(
    place: Place,
) -> None:
    """Nor a dry run of it, nor one whose wishes are wrong besides; and the first goes on."""
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made)
        await made.instances.create(asked(), new("taken", ids))
        request_id, first = new_id(), ("taken", "b", "c")
        assert reasons(await send(made, *batch(request_id, first, ids))) == ["NAME_TAKEN", "", ""]
        other = ("x", "y", "z", "w")
        for flavor, dry in ((ids[0], False), (ids[0], True), (NOWHERE, False)):
            wishes = batch(request_id, other, (flavor, ids[1]), dry=dry)
            assert reasons(await send(made, *wishes)) == [REUSED] * 4
        assert names_of(place) == {"taken", "b", "c"}
        again = await send(made, *batch(request_id, first, ids))
        assert reasons(again) == ["NAME_TAKEN", "", ""]
        check_books(place)


async def test_a_batch_of_which_nothing_was_made_leaves_its_request_id_free(place: Place) -> None:
    """Refusals are not remembered, nor are dry runs."""
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made)
        await made.instances.create(asked(), new("taken", ids))
        request_id = new_id()
        assert reasons(await send(made, *batch(request_id, ("taken",), ids))) == ["NAME_TAKEN"]
        assert reasons(await send(made, *batch(request_id, ("a", "b"), ids, dry=True))) == ["", ""]
        assert reasons(await send(made, *batch(request_id, ("x", "y"), ids))) == ["", ""]
        assert reasons(await send(made, *batch(request_id, ("taken",), ids))) == [REUSED]


@pytest.mark.parametrize("seed", range(5))
async def test_of_two_batches_at_once_only_one_makes_anything(place: Place, seed: int) -> None:
    """Through one conductor in one commit, in several, and through two; with refusals among them,
    so that either can be the first of which anything is made.
    """
    random = Random(seed)
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        ids = await catalog(one)
        await one.instances.create(asked(), new("taken", ids))
        for n in range(8):
            request_id = new_id()
            names = [
                [f"{side}{n}-{m}" if random.random() < 0.7 else "taken" for m in range(size)]
                for side, size in (("a", random.randint(1, 5)), ("b", random.randint(1, 5)))
            ]
            sent = [
                (side, wish)
                for side, wished in enumerate(names)
                for wish in batch(request_id, wished, ids)
            ]
            random.shuffle(sent)
            results = await asyncio.gather(
                *(send(random.choice((one, two)), wish) for _, wish in sent)
            )
            check_told(sent, [result for (result,) in results], names, names_of(place))
        check_books(place)


def check_told(
    sent: Sequence[tuple[int, Any]],
    results: Sequence[Any],
    names: Sequence[Sequence[str]],
    living: set[str],
) -> None:
    told = zip(sent, reasons(results), strict=True)
    made = {side for (side, _), reason in told if not reason}
    wished = [set(side) - {"taken"} for side in names]
    assert len(made) <= 1
    for side, of_side in enumerate(wished):
        assert of_side & living == (of_side if side in made else set())
    if any(wished):
        assert made, "who comes first is made"
