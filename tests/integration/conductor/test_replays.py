"""Every wish, sent again: one effect and one answer; another payload is refused; a dry run changes
nothing and says the same. The list of wishes is that of the contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from stead.internal.v1 import conductor_pb2

from services.conductor.flows.accept_instance import InstanceChanges
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.logic.rows import Caller
from services.domain.errors import Invalid, NotFound
from services.domain.instance import Action
from services.domain.kinds import ResourceKind
from services.runtime.rpc import code_of
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Sent, asked, conductor
from tests.integration.conductor.test_flow import check_books
from tests.integration.conductor.wishes import WISHES, Ground, mutation, prepared, send

INVALID = code_of(Invalid("X", ""))
ONEOF = conductor_pb2.Mutation.DESCRIPTOR.oneofs_by_name["wish"]
TABLES = "instance operation claim host catalog project request change counter"
EVERY = pytest.mark.parametrize("wish", [field.name for field in ONEOF.fields])


def test_every_wish_of_the_contract_is_tried() -> None:
    assert set(WISHES) == {field.name for field in ONEOF.fields}


def books(place: Place) -> str:
    """All rows that a client can see or a replay is answered from."""
    sums = ", ".join(
        f"(SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM {table} t)"
        for table in TABLES.split()
    )
    return place.sql(f"SELECT {sums}")


def told(message: Any) -> Any:
    """The part of a wish that has its request id."""
    return getattr(message, "create", getattr(message, "description", message))


def dry(message: Any) -> Any:
    """The same wish, only to be checked."""
    copy = type(message)()
    copy.CopyFrom(message)
    told(copy).validate_only = True
    return copy


def other(wish: str, message: Any) -> Any:
    """Another wish under the same request id."""
    copy = type(message)()
    copy.CopyFrom(message)
    if wish == "batched_create":
        copy.fingerprint = b"another batch"
    elif wish == "register_image":
        copy.description.name = "another"
    else:
        for field, value in WISHES[wish][1].items():
            setattr(copy, field, value)
    return copy


def identities(result: Any) -> tuple[str, str]:
    assert not result.HasField("error"), result.error
    return result.resource.id, result.operation.id


@EVERY
async def test_a_wish_that_is_sent_again_has_one_effect_and_one_answer(
    place: Place, wish: str
) -> None:
    """Twenty times at once through two conductors, and once more afterwards."""
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        ground = await prepared(one)
        message = mutation(wish, WISHES[wish][0](ground))
        results = await asyncio.gather(
            *(send(made, message, message) for made in (one, two) for _ in range(5))
        )
        answers = {identities(result) for batch in results for result in batch}
        assert len(answers) == 1
        before = books(place)
        (again,) = await send(two, message)
        assert {identities(again)} == answers
        assert books(place) == before
        check_books(place)


@EVERY
async def test_another_payload_under_the_same_request_id_is_refused(
    place: Place, wish: str
) -> None:
    """Also where only a dry run is asked for, and whatever else would be wrong with it."""
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        message = WISHES[wish][0](ground)
        identities((await send(made, mutation(wish, message)))[0])
        before = books(place)
        changed = other(wish, message)
        for asked in (changed, dry(changed)):
            (result,) = await send(made, mutation(wish, asked))
            assert (result.error.code, result.error.reason) == (INVALID, "REQUEST_ID_REUSED")
            assert result.error.field == "request_id"
        assert books(place) == before


@EVERY
async def test_a_dry_run_changes_nothing_and_is_not_remembered(place: Place, wish: str) -> None:
    """Its answer has no operation; what would be new has neither id nor version. Afterwards the
    same request id can be used for the same wish.
    """
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        message = WISHES[wish][0](ground)
        before = books(place)
        (result,) = await send(made, mutation(wish, dry(message)))
        assert books(place) == before
        assert not result.HasField("error"), result.error
        assert not result.HasField("operation")
        assert result.HasField("resource")
        assert result.resource.revision == 0
        if wish in ("create_instance", "batched_create", "create_flavor", "create_key_pair"):
            assert (result.resource.id, result.resource.version) == ("", 0)
        (result,) = await send(made, mutation(wish, message))
        assert not result.HasField("error"), result.error
        assert result.resource.revision > 0


@EVERY
async def test_after_a_dry_run_its_request_id_can_be_used_for_another_wish(
    place: Place, wish: str
) -> None:
    async with conductor(place.url, Sent()) as made:
        message = WISHES[wish][0](await prepared(made))
        (result,) = await send(made, mutation(wish, dry(message)))
        assert not result.HasField("error"), result.error
        (result,) = await send(made, mutation(wish, other(wish, message)))
        assert result.error.reason != "REQUEST_ID_REUSED"


@EVERY
async def test_a_dry_run_of_a_wish_that_was_made_shows_what_it_made(
    place: Place, wish: str
) -> None:
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        message = WISHES[wish][0](ground)
        (real,) = await send(made, mutation(wish, message))
        before = books(place)
        (result,) = await send(made, mutation(wish, dry(message)))
        assert not result.HasField("error"), result.error
        assert result.resource.id == real.resource.id
        assert not result.HasField("operation")
        assert books(place) == before


@EVERY
async def test_a_dry_run_says_why_not(place: Place, wish: str) -> None:
    """With the error of the real one, for what is not there or taken."""
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        message = refused(wish, ground)
        answers = [
            (await send(made, mutation(wish, asked)))[0].error for asked in (dry(message), message)
        ]
        assert answers[0].reason
        assert answers[0] == answers[1]


def refused(wish: str, ground: Ground) -> Any:
    """A message of this wish that cannot be fulfilled."""
    message = WISHES[wish][0](ground)
    missing = "01890000-0000-7000-8000-000000000000"
    if wish.endswith("_host") or wish in ("delete_project", "update_project"):
        message.id = "nowhere"
    elif wish == "discard_guest":
        message.host_id = "nowhere"
    elif wish == "update_quota":
        message.etag = "stale"
    elif wish in ("create_instance", "batched_create"):
        told(message).name = "runs"
    elif wish == "create_flavor":
        message.name = "small"
    elif wish == "register_image":
        message.description.name = "taken"
    elif wish == "create_key_pair":
        message.public_key = "ssh-rsa nonsense"
    elif wish == "create_project":
        message.id = "known"
    else:
        message.id = missing
    return message


CHANGES = InstanceChanges("renamed", {}, ("name",), "")
Touch = Callable[[Ground, Asked], Awaitable[Accepted]]
# Wishes about what is another project's, by method.
TOUCHES: dict[str, Touch] = {
    "delete_instance": lambda g, a: g.made.instances.delete(a, g.active_id),
    "update_instance": lambda g, a: g.made.instances.update(a, g.active_id, CHANGES),
    "start_instance": lambda g, a: g.made.power.switch(a, g.stopped_id, Action.START),
    "cancel_operation": lambda g, a: g.made.cancels.cancel(a, g.placing_operation_id),
    "delete_image": lambda g, a: g.made.catalog.delete(a, ResourceKind.IMAGE, g.image_id),
    "delete_flavor": lambda g, a: g.made.catalog.delete(a, ResourceKind.FLAVOR, g.flavor_id),
    "delete_key_pair": lambda g, a: g.made.catalog.delete(a, ResourceKind.KEY_PAIR, g.key_pair_id),
}


@pytest.mark.parametrize("method", TOUCHES)
async def test_a_replay_is_authorised_anew(place: Place, method: str) -> None:
    """Who could touch another project's thing as a cloud admin, and is none any more, is not told
    what became of it. MECHANICS B6.
    """
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        once = asked(method, caller=Caller("root", "q", cloud_admin=True))
        first = await TOUCHES[method](ground, once)
        again = await TOUCHES[method](ground, once)
        assert (again.resource.id, again.operation.id) == (first.resource.id, first.operation.id)
        with pytest.raises(NotFound):
            await TOUCHES[method](
                ground, replace(once, caller=Caller("root", "q", cloud_admin=False))
            )
