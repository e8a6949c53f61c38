"""A host tells all guests that it has, known or not, and touches none that nobody claims."""

from __future__ import annotations

import asyncio
from random import Random

from stead.v1 import instance_pb2

from services.compute.edges.messages import command_batch_from_wire
from services.compute.flows.ports import GuestSpec, ImageFile, Inventory
from services.compute.flows.take_inventory import GUESTS_MAX, Counter
from services.compute.logic.guest import Guest, Identity
from services.domain.instance import Power
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources
from services.runtime.ids import new_id
from tests.integration.compute.conftest import CLOUD_ID, Living, Stage, until_found, wanted

IMAGE = b"an image" * 1000
RUNNING = instance_pb2.INSTANCE_POWER_RUNNING
LOST = "GUEST_LOST"
SPEC = GuestSpec("stranger", "p", Resources(1, 64, 1), (), b"")


def an_image(stage: Stage) -> ImageFile:
    path = stage.folder / "image"
    path.write_bytes(IMAGE)
    return ImageFile(path, ImageKind.RAW, Architecture.X86_64)


async def built(stage: Stage, living: Living, name: str) -> None:
    """An instance that runs."""
    stage.ingress.blobs[wanted(name, IMAGE).spec.image.digest] = IMAGE
    await living.viewed()
    wish = wanted(name, IMAGE)
    living.command(wish)
    await living.until_seen(wish, lambda seen: seen.applied_generation == 1)


def ask(living: Living, revision: int) -> None:
    """As the conductor does over the bus."""
    host_id = living.agent.host_id
    batch = command_batch_from_wire(living.ingress.command(host_id))
    living.agent.receive_command(
        type(batch)(batch.host_id, batch.incarnation, (), inventory_as_of=revision)
    )


async def test_a_host_that_is_asked_tells_all_its_guests_as_of_that_commit(stage: Stage) -> None:
    """At once, with what each one's claim, power and generation are."""
    async with stage.living(stage.driver()) as living:
        wish = wanted("web", IMAGE)
        await built(stage, living, "web")
        ask(living, 77)
        host = stage.ingress.hosts["h1"]
        await stage.ingress.until(lambda: any(i.as_of_revision == 77 for i in host.inventories))
        told = host.inventories[-1]
        [guest] = told.guests
        assert (guest.instance_id, guest.epoch) == (wish.instance_id, 1)
        assert (guest.power, guest.applied_generation) == (RUNNING, 1)
        assert not told.cut_short


async def test_a_command_for_another_agent_asks_nothing(stage: Stage) -> None:
    """Neither its wishes nor its question count."""
    async with stage.living(stage.driver()) as living:
        await living.viewed()
        batch = command_batch_from_wire(stage.ingress.command("h1"))
        other = type(batch)("h1", batch.incarnation + 1, (), inventory_as_of=9)
        living.agent.receive_command(other)
        ask(living, 5)
        host = stage.ingress.hosts["h1"]
        await stage.ingress.until(lambda: bool(host.inventories))
        assert [i.as_of_revision for i in host.inventories] == [5]


async def test_a_guest_of_nobody_is_told_when_it_changes_and_left_as_it_is(stage: Stage) -> None:
    """Made and started behind stead's back: noticed by the hypervisor's event, not touched."""
    driver = stage.driver()
    async with stage.living(driver) as living:
        await built(stage, living, "web")
        await living.until_seen(wanted("web", IMAGE))
        found = await until_found(driver)
        stranger = Identity(CLOUD_ID, new_id(), 5)
        await driver.prepare_guest(stranger, SPEC, an_image(stage))
        await driver.start_guest(stranger)
        driver.power_off_from_inside(stranger.claim)
        host = stage.ingress.hosts["h1"]
        await stage.ingress.until(
            lambda: any(
                guest.instance_id == stranger.instance_id
                for inventory in host.inventories
                for guest in inventory.guests
            )
        )
        ask(living, 3)
        await stage.ingress.until(lambda: any(i.as_of_revision == 3 for i in host.inventories))
        kept = {g.identity.instance_id: g for g in await driver.list_guests()}
        assert set(kept) == {stranger.instance_id, found.identity.instance_id}
        assert kept[stranger.instance_id].power is Power.OFF, "it is not started again"


async def test_a_guest_that_vanished_while_nobody_watched_is_not_made_anew(stage: Stage) -> None:
    """A new agent knows nothing of it but what the view says: it was built."""
    async with stage.living(stage.driver()) as living:
        await built(stage, living, "web")
    wish = stage.ingress.hosts["h1"].claims[wanted("web", IMAGE).instance_id, 1]
    wish.built = True
    driver = stage.driver()
    guest = await until_found(driver)
    await driver.stop_guest(guest.identity)
    await driver.erase_guest(guest.identity)
    async with stage.living(driver) as living:
        seen = await living.until_seen(wish, lambda seen: seen.failure.reason == LOST)
        assert seen.power == instance_pb2.INSTANCE_POWER_CRASHED
        assert not seen.absent
        assert await driver.list_guests() == []


async def test_everything_is_said_again_after_a_greeting_even_under_the_same_number(
    stage: Stage,
) -> None:
    """The database was set back: the new incarnation has the number of the one before."""
    async with stage.living(stage.driver()) as living:
        wish = wanted("web", IMAGE)
        await built(stage, living, "web")
        host = stage.ingress.hosts["h1"]
        host.heard.clear()
        host.incarnation -= 1
        await stage.ingress.stop()
        await stage.ingress.start(stage.target)
        await stage.ingress.until(lambda: bool(host.heard))
        assert host.heard[0].instance_id == wish.instance_id
        assert living.agent.reconciler.wishes.incarnation == 1
        assert host.heard[0].sequence == 1


class Many:
    """A driver of more guests than one inventory carries."""

    async def list_guests(self) -> list[Guest]:
        return [
            Guest(Identity(CLOUD_ID, new_id(), n + 1), True, Power.OFF, 1)
            for n in range(GUESTS_MAX + 1)
        ]


async def test_more_guests_than_a_message_may_carry_are_cut_short_and_said_to_be() -> None:
    """So that nobody takes the others for absent."""
    told: list[Inventory] = []

    class Stream:
        async def send(self, saying: Inventory) -> None:
            told.append(saying)

    counter = Counter(Many(), Random(1))  # type: ignore[arg-type]  # only its list
    counter.ask(4)
    telling = asyncio.create_task(counter.tell(Stream()))  # type: ignore[arg-type]  # only sends
    async with asyncio.timeout(60):
        while not told:  # noqa: ASYNC110  # only a look can tell
            await asyncio.sleep(0.01)
    telling.cancel()
    assert (len(told[0].guests), told[0].cut_short, told[0].as_of_revision) == (GUESTS_MAX, True, 4)
