"""Stop, start and reboot by the agent of a fake host, against a real gRPC server; also across the
agent's death at any moment.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from stead.internal.v1 import compute_pb2

from services.compute.edges.drivers.fake import FakeDriver, Faults
from services.compute.flows.ports import StepFailed
from services.compute.logic.guest import Identity, Notes
from services.domain.instance import Power
from tests.integration.compute.conftest import (
    CAPACITY,
    CLOUD_ID,
    Living,
    Stage,
    until_found,
    wanted,
)

IMAGE = b"an image " * 1000


def met(wish: compute_pb2.Wanted):
    """Whether an observation says that a wish is met."""
    power = Power(wish.spec.power)
    return lambda o: (o.applied_generation, o.power) == (wish.generation, power)


@asynccontextmanager
async def with_guest(
    stage: Stage, driver: FakeDriver, name: str = "a"
) -> AsyncIterator[tuple[Living, compute_pb2.Wanted]]:
    stage.ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE
    async with stage.living(driver) as host:
        await host.viewed()
        wish = wanted(name, IMAGE)
        host.command(wish)
        await host.until_seen(wish, met(wish))
        yield host, wish


async def boots(driver: FakeDriver) -> int:
    """How often the host's only guest was started."""
    (guest,) = await driver.list_guests()
    log = await driver.read_console_log(guest.identity, 1 << 20)
    return log.content.count(b"STEAD-GUEST")


class MortalDriver(FakeDriver):
    """A fake host whose agent is as good as dead after so many steps: nothing comes of the rest."""

    def __init__(self, stage: Stage, steps: int) -> None:
        super().__init__(
            stage.folder / "fake" / "h1", cloud_id=CLOUD_ID, capacity=CAPACITY, faults=Faults()
        )
        self.dead = asyncio.Event()
        self._left = steps

    async def _live(self, step: Coroutine[Any, Any, None]) -> None:
        if self._left <= 0:
            step.close()
            self.dead.set()
            await asyncio.Event().wait()
        self._left -= 1
        await step
        if self._left == 0:
            self.dead.set()
            await asyncio.Event().wait()

    async def write_notes(self, identity: Identity, notes: Notes) -> None:
        await self._live(super().write_notes(identity, notes))

    async def ask_guest_to_stop(self, identity: Identity) -> None:
        await self._live(super().ask_guest_to_stop(identity))

    async def stop_guest(self, identity: Identity) -> None:
        await self._live(super().stop_guest(identity))

    async def start_guest(self, identity: Identity) -> None:
        await self._live(super().start_guest(identity))

    async def mark_applied(self, identity: Identity, generation: int) -> None:
        await self._live(super().mark_applied(identity, generation))


async def test_a_guest_is_stopped_started_and_rebooted(stage: Stage):
    driver = stage.driver()
    async with with_guest(stage, driver) as (host, _):
        for generation, (run, boot, starts) in enumerate(
            [(False, 1, 1), (True, 1, 2), (True, 2, 3), (True, 3, 4), (False, 3, 4), (True, 4, 5)],
            start=2,
        ):
            wish = wanted(
                "a",
                IMAGE,
                generation=generation,
                power=Power.RUNNING if run else Power.OFF,
                boot=boot,
                grace_s=60,
            )
            host.command(wish)
            await host.until_seen(wish, met(wish))
            assert await boots(driver) == starts


async def test_a_guest_that_does_not_hear_is_switched_off_when_its_grace_is_over(stage: Stage):
    driver = stage.driver()
    async with with_guest(stage, driver, "deaf-a") as (host, _):
        wish = wanted("deaf-a", IMAGE, generation=2, power=Power.OFF, grace_s=1)
        host.command(wish)
        await until_found(driver, lambda guest: guest.notes.asked is not None)
        await host.until_seen(wish, met(wish))


async def test_the_grace_goes_on_where_a_dead_agent_left_it(stage: Stage):
    driver = stage.driver()
    async with with_guest(stage, driver, "deaf-a") as (host, _):
        wish = wanted("deaf-a", IMAGE, generation=2, power=Power.OFF, grace_s=2)
        host.command(wish)
        noted = await until_found(driver, lambda guest: guest.notes.asked is not None)
    driver = stage.driver()
    (found,) = await driver.list_guests()
    assert found.notes == noted.notes
    async with stage.living(driver) as host:
        await host.until_seen(wish, met(wish))
        (found,) = await driver.list_guests()
        assert found.notes == noted.notes


async def test_a_deleted_guest_is_not_asked(stage: Stage):
    driver = stage.driver()
    async with with_guest(stage, driver, "deaf-a") as (host, _):
        host.command(wanted("deaf-a", IMAGE, generation=2, power=Power.OFF, grace_s=3600))
        await until_found(driver, lambda guest: guest.notes.asked is not None)
        gone = wanted("deaf-a", IMAGE, generation=3, present=False)
        host.command(gone)
        await host.until_seen(gone, lambda o: o.absent)


async def test_an_agent_that_dies_anywhere_in_a_reboot_neither_loses_nor_doubles_it(stage: Stage):
    """Each agent dies a step later than the one before: before the step, or after it."""
    driver = stage.driver()
    async with with_guest(stage, driver, "deaf-a"):
        pass
    for boot in range(2, 5):
        wish = stage.ingress.want(
            "h1", wanted("deaf-a", IMAGE, generation=boot, boot=boot, grace_s=boot % 2)
        )
        for steps in range(8):
            mortal = MortalDriver(stage, steps)
            async with stage.living(mortal) as host:
                over = asyncio.ensure_future(host.until_seen(wish, met(wish)))
                dead = asyncio.ensure_future(mortal.dead.wait())
                async with asyncio.timeout(60):
                    await asyncio.wait({over, dead}, return_when=asyncio.FIRST_COMPLETED)
                over.cancel()
                dead.cancel()
        driver = stage.driver()
        async with stage.living(driver) as host:
            await host.until_seen(wish, met(wish))
        assert await boots(driver) == boot


class UnwillingDriver(FakeDriver):
    """A fake host that starts no guest any more once it is told so."""

    willing = True

    async def start_guest(self, identity: Identity) -> None:
        if not self.willing:
            raise StepFailed("FAKE_FAILURE", "not again")
        await super().start_guest(identity)


async def test_a_guest_that_cannot_be_started_again_is_told_with_why_and_kept(stage: Stage):
    folder = stage.folder / "fake" / "h1"
    driver = UnwillingDriver(folder, cloud_id=CLOUD_ID, capacity=CAPACITY, faults=Faults())
    async with with_guest(stage, driver) as (host, made):
        stop = wanted("a", IMAGE, generation=2, power=Power.OFF)
        host.command(stop)
        await host.until_seen(stop, met(stop))
        driver.willing = False
        start = wanted("a", IMAGE, generation=3)
        host.command(start)
        seen = await host.until_seen(start, lambda o: o.HasField("failure"))
        assert (seen.failure.reason, seen.absent) == ("FAKE_FAILURE", False)
        assert seen.failure.generation == 3
        assert (seen.applied_generation, seen.power) == (2, Power.OFF)
        again = wanted("a", IMAGE, generation=4, power=Power.OFF)
        host.command(again)
        await host.until_seen(again, met(again))
        assert len(await driver.list_guests()) == 1
        assert made.instance_id == again.instance_id
