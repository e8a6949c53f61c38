"""Projects, quotas, key pairs and hosts over the real store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from stead.internal.v1 import conductor_pb2
from stead.v1 import host_pb2, instance_pb2, project_pb2

from services.conductor.flows.answer import Accepted
from services.conductor.flows.decide import Decision
from services.conductor.flows.ports import Query
from services.conductor.logic.items import Record
from services.conductor.logic.rows import Caller
from services.domain.condition import Condition
from services.domain.errors import (
    AlreadyExists,
    CloudError,
    Conflict,
    Invalid,
    NoCapacity,
    NotFound,
    WrongState,
)
from services.domain.etag import etag_of
from services.domain.kinds import ResourceKind
from services.domain.resources import UNLIMITED, UNUSED, QuotaAmounts, Resources
from services.runtime.ids import new_id
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import (
    ME,
    Conductor,
    Sent,
    asked,
    catalog,
    conductor,
    hello,
    new_instance,
)
from tests.integration.conductor.test_flow import check_books
from tests.integration.conductor.wishes import KEY, mutation, send

ADMIN = Caller("root", "admin", cloud_admin=True)
OTHER = Caller("them", "q", cloud_admin=False)
SMALL = Resources(2, 100, 3)
EVERYTHING = ("*",)


async def limit(made: Conductor, project_id: str, limits: QuotaAmounts, *mask: str) -> Accepted:
    return await made.projects.limit(
        asked("update_quota", caller=ADMIN), project_id, limits, mask=mask or EVERYTHING, etag=""
    )


async def read(made: Conductor, caller: Caller, project_id: str) -> Record | None:
    page = await made.reader.read(caller, Query(ResourceKind.PROJECT, project_id, "", "", 1))
    return page.records[0] if page.records else None


async def quota(made: Conductor, project_id: str) -> tuple[QuotaAmounts, QuotaAmounts]:
    """Limits and use, as an admin reads them."""
    record = await read(made, ADMIN, project_id)
    assert record is not None
    assert record.quota is not None
    return record.quota


async def create(made: Conductor, name: str, ids: tuple[str, str]) -> Accepted | CloudError:
    try:
        return await made.instances.create(asked(), new_instance(name, ids))
    except CloudError as error:
        return error


async def test_a_quota_is_exact_whatever_comes_at_once(place: Place) -> None:
    """A hundred creates through two conductors, room for 37: 37 are accepted, the others are told
    the limit that they would pass, and what is used is what there is.
    """
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        ids = await catalog(one, SMALL)
        await limit(one, "p", QuotaAmounts(37, -1, -1, -1))
        answers = await asyncio.gather(
            *(create((one, two)[n % 2], f"n{n}", ids) for n in range(100))
        )
        refused = [a for a in answers if isinstance(a, CloudError)]
        assert len(refused) == 63
        for error in refused:
            assert isinstance(error, NoCapacity)
            assert error.reason == "QUOTA_EXCEEDED"
            assert error.metadata == {
                "instances_limit": "37", "instances_used": "37", "instances_asked": "1",
            }  # fmt: skip
        assert place.sql("SELECT count(*) FROM instance WHERE NOT deleted") == "37"
        assert (await quota(one, "p"))[1] == QuotaAmounts(37, 74, 3700, 111)
        check_books(place)


async def test_each_resource_has_its_limit_and_is_told_in_words(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made, SMALL)
        await limit(made, "p", QuotaAmounts(9, 3, 150, 5))
        assert isinstance(await create(made, "first", ids), Accepted)
        message = instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name="n", flavor_id=ids[0], image_id=ids[1]
        )
        (result,) = await send(made, mutation("create_instance", message))
        assert result.error.reason == "QUOTA_EXCEEDED"
        assert dict(result.error.quota_violations) == {
            "vcpus": "2 asked beside 2 used, the limit is 3",
            "memory_mib": "100 asked beside 100 used, the limit is 150",
            "disk_gib": "3 asked beside 3 used, the limit is 5",
        }
        assert result.error.metadata["vcpus_limit"] == "3"


async def test_what_ends_returns_to_the_quota_at_once_and_what_failed_does_not(
    place: Place,
) -> None:
    """Deleted, also while its host keeps the claim, and called off; ERROR counts until deleted."""
    async with conductor(place.url, Sent(), usual=QuotaAmounts(3, -1, -1, -1)) as made:
        await made.greeter.greet(hello())
        ids = await catalog(made, SMALL)
        first, second, third = [
            await made.instances.create(asked(), new_instance(f"n{n}", ids)) for n in range(3)
        ]
        await made.decider.decide([Decision(second.resource.id, 1, "", 1, {"up": 1})])
        await made.decider.decide([Decision(third.resource.id, 1, "h1", 1, {})])
        assert isinstance(await create(made, "more", ids), NoCapacity)
        await made.cancels.cancel(asked("cancel_operation"), first.operation.id)
        assert isinstance(await create(made, "more", ids), Accepted)
        await made.instances.delete(asked("delete_instance"), second.resource.id)
        assert isinstance(await create(made, "again", ids), Accepted)
        place.sql("UPDATE host SET state = 2")
        await made.instances.delete(asked("delete_instance"), third.resource.id)
        async with asyncio.timeout(60):
            while (await quota(made, "p"))[1].instances > 2:  # noqa: ASYNC110  # the rows have no event
                await asyncio.sleep(0.01)
        assert place.sql("SELECT count(*) FROM claim") == "1"
        check_books(place)


async def test_a_lowered_limit_takes_nothing_away_and_lets_nothing_in(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made, SMALL)
        kept = [await made.instances.create(asked(), new_instance(f"n{n}", ids)) for n in range(3)]
        accepted = await limit(made, "p", QuotaAmounts(1, 0, 0, 0), "instances")
        assert accepted.resource.quota == (
            QuotaAmounts(1, -1, -1, -1), QuotaAmounts(3, 6, 300, 9),
        )  # fmt: skip
        assert accepted.resource.version == 1, "a project that has limits is known"
        assert isinstance(await create(made, "more", ids), NoCapacity)
        for one in kept:
            await made.instances.delete(asked("delete_instance"), one.resource.id)
        assert isinstance(await create(made, "more", ids), Accepted)
        check_books(place)


async def test_limits_that_the_mask_leaves_out_stay_as_they_hold(place: Place) -> None:
    usual = QuotaAmounts(10, 20, -1, 40)
    async with conductor(place.url, Sent(), usual=usual) as made:
        assert await quota(made, "p") == (usual, UNUSED)
        first = await limit(made, "p", QuotaAmounts(5, 0, 0, 0), "instances")
        assert (await quota(made, "p"))[0] == replace(usual, instances=5)
        await limit(made, "p", QuotaAmounts(0, -1, 7, 0), "vcpus", "memory_mib")
        assert (await quota(made, "p"))[0] == QuotaAmounts(5, -1, 7, 40)
        stale = etag_of("p", first.resource.version)
        with pytest.raises(Conflict) as caught:
            await made.projects.limit(
                asked("update_quota"), "p", UNLIMITED, mask=EVERYTHING, etag=stale
            )
        assert caught.value.reason == "ETAG_MISMATCH"
        for limits, mask in ((QuotaAmounts(-2, 0, 0, 0), ("instances",)), (UNLIMITED, ("id",))):
            with pytest.raises(Invalid) as wrong:
                await limit(made, "p", limits, *mask)
            assert wrong.value.reason == "INVALID_FIELD"
        check_books(place)


async def test_a_project_is_made_known_changed_and_forgotten(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:

        async def make(name: str) -> Accepted:
            return await made.projects.create(asked("create_project", caller=ADMIN), "p", name)

        first = await make("First")
        with pytest.raises(AlreadyExists) as taken:
            await make("Second")
        assert (taken.value.reason, taken.value.field) == ("NAME_TAKEN", "id")
        changed = await made.projects.update(
            asked("update_project", caller=ADMIN),
            "p",
            "Changed",
            mask=("display_name",),
            etag=etag_of("p", first.resource.version),
        )
        known = project_pb2.Project.FromString(changed.resource.body)
        assert (known.id, known.display_name) == ("p", "Changed")
        ids = await catalog(made)
        accepted = await made.instances.create(asked(), new_instance("n", ids))
        with pytest.raises(WrongState) as full:
            await made.projects.delete(asked("delete_project", caller=ADMIN), "p")
        assert full.value.reason == "PROJECT_NOT_EMPTY"
        await made.instances.delete(asked("delete_instance"), accepted.resource.id)
        await made.projects.delete(asked("delete_project", caller=ADMIN), "p")
        record = await read(made, ME, "p")
        assert record is not None
        assert record.version == 0, "its own project is there for everyone, known or not"
        for call in (
            made.projects.delete(asked("delete_project", caller=ADMIN), "p"),
            made.projects.update(asked("update_project"), "p", "x", mask=EVERYTHING, etag=""),
        ):
            with pytest.raises(NotFound) as gone:
                await call
            assert gone.value.reason == "PROJECT_NOT_FOUND"
        again = await make("Again")
        assert again.resource.version > changed.resource.version
        check_books(place)


async def test_of_two_that_make_a_project_known_one_does(place: Place) -> None:
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        ids = await catalog(one)
        for n in range(10):
            both = await asyncio.gather(
                *(
                    made.projects.create(asked("create_project"), f"p{n}", "x")
                    for made in (one, two)
                ),
                create(one, f"n{n}", ids),
                return_exceptions=True,
            )
            (refused,) = (a for a in both if isinstance(a, CloudError))
            assert refused.reason == "NAME_TAKEN"
        check_books(place)


async def test_a_project_that_nobody_made_known_has_usual_limits_and_its_use(place: Place) -> None:
    """Its own caller and admins see it, with version 0; to others it is not there."""
    usual = QuotaAmounts(5, -1, -1, -1)
    async with conductor(place.url, Sent(), usual=usual) as made:
        ids = await catalog(made, SMALL)
        await made.instances.create(asked(), new_instance("n", ids))
        for caller in (ME, ADMIN):
            record = await read(made, caller, "p")
            assert record is not None
            assert (record.id, record.version) == ("p", 0)
            assert record.quota == (usual, QuotaAmounts(1, 2, 100, 3))
            assert project_pb2.Project.FromString(record.body).id == "p"
        assert await read(made, OTHER, "p") is None
        listed = await made.reader.read(ADMIN, Query(ResourceKind.PROJECT, "", "", "", 100))
        assert not listed.records


async def test_a_host_that_is_disabled_says_why_and_stays_so_when_its_agent_begins_anew(
    place: Place,
) -> None:
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        await made.hosts.disable(asked("disable_host"), "h1", "broken fan")
        await made.greeter.greet(hello())
        row = (await made.store.hosts_read(["h1"]))["h1"]
        assert (row.enabled, row.disabled_reason, row.incarnation) == (False, "broken fan", 2)
        again = await made.hosts.disable(asked("disable_host"), "h1", "broken fan")
        version = again.resource.version
        enabled = await made.hosts.enable(asked("enable_host"), "h1")
        shown = host_pb2.Host.FromString(enabled.resource.body)
        assert (shown.enabled, shown.disabled_reason) == (True, "")
        assert enabled.resource.version == version + 1
        with pytest.raises(NotFound) as missing:
            await made.hosts.enable(asked("enable_host"), "h9")
        assert missing.value.reason == "HOST_NOT_FOUND"
        check_books(place)


async def test_two_disables_at_once_both_end_and_one_reason_stands(place: Place) -> None:
    """Beside a greeting and a claim on the same host; nothing of any is lost."""
    async with conductor(place.url, Sent()) as one, conductor(place.url, Sent()) as two:
        await one.greeter.greet(hello())
        ids = await catalog(one)
        accepted = await one.instances.create(asked(), new_instance("n", ids))
        first, second, _, _ = await asyncio.gather(
            one.hosts.disable(asked("disable_host"), "h1", "first"),
            two.hosts.disable(asked("disable_host"), "h1", "second"),
            two.greeter.greet(hello()),
            one.decider.decide([Decision(accepted.resource.id, 1, "h1", 1, {})]),
        )
        assert first.operation.id != second.operation.id
        row = (await one.store.hosts_read(["h1"]))["h1"]
        assert not row.enabled
        assert row.disabled_reason in ("first", "second")
        assert row.incarnation == 2
        assert place.sql("SELECT claim_count FROM host") == "1"
        check_books(place)


async def test_key_pairs_go_into_instances_and_stay_there(place: Place) -> None:
    """Each key once, the given ones first; another project's key pair is not there."""
    async with conductor(place.url, Sent()) as made:
        ids = await catalog(made)
        mine = await made.catalog.create_key_pair(asked("create_key_pair"), "mine", KEY)
        theirs = await made.catalog.create_key_pair(
            asked("create_key_pair", caller=OTHER), "mine", KEY
        )
        wanted = replace(
            new_instance("n", ids),
            ssh_public_keys=("given", KEY),
            key_pair_ids=(mine.resource.id, mine.resource.id),
        )
        accepted = await made.instances.create(asked(), wanted)
        await made.catalog.delete(asked("delete_key_pair"), ResourceKind.KEY_PAIR, mine.resource.id)
        found = await made.store.situations_read([accepted.resource.id])
        assert found[accepted.resource.id].instance.wanted.ssh_public_keys == ("given", KEY)
        for pair in (theirs, mine):
            lacking = replace(new_instance("m", ids), key_pair_ids=(pair.resource.id,))
            with pytest.raises(Invalid) as caught:
                await made.instances.create(asked(), lacking)
            assert (caught.value.reason, caught.value.field) == (
                "KEY_PAIR_NOT_FOUND", "key_pair_ids",
            )  # fmt: skip
        with pytest.raises(NotFound) as missing:
            await made.catalog.delete(
                asked("delete_key_pair"), ResourceKind.KEY_PAIR, theirs.resource.id
            )
        assert missing.value.reason == "KEY_PAIR_NOT_FOUND"


async def test_a_line_that_is_no_key_is_refused_and_a_name_is_taken_once(place: Place) -> None:
    async with conductor(place.url, Sent()) as made:
        with pytest.raises(Invalid) as wrong:
            await made.catalog.create_key_pair(asked("create_key_pair"), "k", "ssh-rsa " + KEY[12:])
        assert (wrong.value.reason, wrong.value.field) == ("PUBLIC_KEY_INVALID", "public_key")
        both = await asyncio.gather(
            *(made.catalog.create_key_pair(asked("create_key_pair"), "k", KEY) for _ in range(2)),
            return_exceptions=True,
        )
        (taken,) = (a for a in both if isinstance(a, CloudError))
        assert taken.reason == "NAME_TAKEN"


async def test_the_instances_of_a_batch_are_accepted_or_refused_one_by_one(place: Place) -> None:
    """Sent again, those that were accepted are the same, and those that were refused are tried
    again; another batch under the same id is refused.
    """
    async with conductor(place.url, Sent(), usual=QuotaAmounts(4, -1, -1, -1)) as made:
        ids = await catalog(made)
        request_id = new_id()

        def batch(fingerprint: bytes = b"one") -> list[conductor_pb2.Mutation]:
            names = ("a", "b", "a", "c", "d", "e")
            return [
                mutation(
                    "batched_create",
                    conductor_pb2.BatchedCreate(
                        create=instance_pb2.CreateInstanceRequest(
                            request_id=request_id, name=name, flavor_id=ids[0], image_id=ids[1]
                        ),
                        index=n,
                        fingerprint=fingerprint,
                    ),
                )
                for n, name in enumerate(names)
            ]

        results = await send(made, *batch())
        told = [result.error.reason for result in results]
        assert told == ["", "", "NAME_TAKEN", "", "", "QUOTA_EXCEEDED"]
        again = await send(made, *batch())
        assert [r.error.reason for r in again] == told
        assert [r.resource.id for r in again] == [r.resource.id for r in results]
        await limit(made, "p", UNLIMITED)
        last = await send(made, *batch())
        assert [r.error.reason for r in last] == ["", "", "NAME_TAKEN", "", "", ""]
        longer = batch(b"two")
        longer += [conductor_pb2.Mutation.FromString(longer[0].SerializeToString())]
        longer[-1].batched_create.index, longer[-1].batched_create.create.name = 6, "f"
        others = await send(made, *longer)
        assert [r.error.reason for r in others] == ["REQUEST_ID_REUSED"] * 7
        assert place.sql("SELECT count(*) FROM instance") == "5", "none that only the other has"
        check_books(place)


async def test_what_admins_do_to_hosts_and_projects_no_tenant_sees(place: Place) -> None:
    """Not even of the project that the admin's token is of: by id, in lists, by filters, by calling
    it off. The admin sees it there as ever. MECHANICS E7.
    """
    root = Caller("root", ME.project_id, cloud_admin=True)
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello("h1"))
        ids = await catalog(made)
        await create(made, "web", ids)
        done = [
            await made.hosts.disable(asked("disable_host", caller=root), "h1", "broken fan"),
            await made.hosts.enable(asked("enable_host", caller=root), "h1"),
            await made.projects.create(asked("create_project", caller=root), "secret", "S"),
            await made.projects.limit(
                asked("update_quota", caller=root), "secret", UNUSED, mask=("*",), etag=""
            ),
            await made.projects.update(
                asked("update_project", caller=root), "secret", "T", mask=("*",), etag=""
            ),
            await made.projects.delete(asked("delete_project", caller=root), "secret"),
        ]
        about = {one.operation.id for one in done}

        async def seen(caller: Caller, query: Query) -> set[str]:
            page = await made.reader.read(caller, query)
            return {record.id for record in page.records}

        kind, project_id = ResourceKind.OPERATION, ME.project_id
        for listed in (
            Query(kind, "", project_id, "", 50),
            Query(kind, "", project_id, "", 50, (Condition("resource_id", ("h1", "secret")),)),
        ):
            assert not about & await seen(ME, listed)
            assert about <= await seen(root, listed)
        assert len(await seen(ME, Query(kind, "", project_id, "", 50))) == 1
        for operation_id in about:
            one = Query(kind, operation_id, "", "", 1)
            assert await seen(ME, one) == set()
            assert await seen(root, one) == {operation_id}
            with pytest.raises(NotFound):
                await made.cancels.cancel(asked("cancel_operation"), operation_id)
