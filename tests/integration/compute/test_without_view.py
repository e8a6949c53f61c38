"""After a boot of the machine guests start only from a view, unless the host's operator has said
that they may start without one. MECHANICS C8.
"""

import asyncio
from dataclasses import replace

from services.compute.edges.drivers.fake import FakeDriver
from services.compute.logic.guest import Guest
from services.domain.instance import Power
from tests.integration.compute.conftest import Stage, until_found, wanted
from tests.integration.compute.test_agent import IMAGE, is_running, store

NOWHERE = "unix:/nowhere/api.sock"
TRIED_S = 0.5


async def had_guests(stage: Stage, boot_id: str) -> dict[str, str]:
    """A guest that ran and one that its owner had stopped, as they were when the machine lost its
    power; their ids by name.
    """
    store(stage)
    runs, rests = wanted("runs", IMAGE), wanted("rests", IMAGE)
    driver = stage.driver()
    async with stage.living(driver, boot_id=boot_id) as host:
        await host.viewed()
        host.command(runs, rests)
        for wish in (runs, rests):
            await host.until_seen(wish, is_running)
        host.command(wanted("rests", IMAGE, generation=2, power=Power.OFF))
        await until_found(driver, lambda g: g.applied_generation == 2)
        await until_found(driver, lambda g: g.notes.ran_in == boot_id)
        await until_found(driver, lambda g: g.applied_generation == 2 and not g.notes.ran_in)
    for guest in await driver.list_guests():
        if guest.power is Power.RUNNING:
            driver.power_off_from_inside(guest.identity.claim)
    return {"runs": runs.instance_id, "rests": rests.instance_id}


async def found_by_name(stage: Stage, ids: dict[str, str]) -> dict[str, Guest]:
    """The guests now."""
    guests = {g.identity.instance_id: g for g in await stage.driver().list_guests()}
    return {name: guests[id_] for name, id_ in ids.items()}


async def test_what_ran_starts_after_a_boot_though_nobody_answers(stage: Stage) -> None:
    ids = await had_guests(stage, "b1")
    driver = stage.driver()
    async with stage.living(driver, targets=[NOWHERE], boot_id="b2"):
        found = await until_found(driver, lambda g: g.notes.ran_in == "b2")
        assert (found.identity.instance_id, found.power) == (ids["runs"], Power.RUNNING)
    guests = await found_by_name(stage, ids)
    assert guests["rests"].power is Power.OFF


async def test_in_the_same_boot_nothing_starts_that_went_off(stage: Stage) -> None:
    """Its owner may have switched it off: only a view says more."""
    ids = await had_guests(stage, "b1")
    async with stage.living(stage.driver(), targets=[NOWHERE], boot_id="b1"):
        await asyncio.sleep(TRIED_S)
    assert {g.power for g in (await found_by_name(stage, ids)).values()} == {Power.OFF}


async def test_by_default_nothing_starts_before_a_view(stage: Stage) -> None:
    ids = await had_guests(stage, "b1")
    async with stage.living(stage.driver(), targets=[NOWHERE]):
        await asyncio.sleep(TRIED_S)
    assert {g.power for g in (await found_by_name(stage, ids)).values()} == {Power.OFF}


async def test_of_an_instance_with_two_guests_none_starts(stage: Stage) -> None:
    """Which of them holds it is only in the view."""
    ids = await had_guests(stage, "b1")
    driver = stage.driver()
    twin = driver._journal.guests[ids["runs"], 1]
    driver._put(replace(twin, epoch=9))
    async with stage.living(stage.driver(), targets=[NOWHERE], boot_id="b2"):
        await asyncio.sleep(TRIED_S)
    powers = {g.power for g in await stage.driver().list_guests()}
    assert powers == {Power.OFF}


class Late(FakeDriver):
    """A hypervisor that comes up after its agent."""

    looks = 0
    there = asyncio.Event()

    async def list_guests(self) -> list[Guest]:
        self.looks += 1
        if self.looks < 3:
            raise ConnectionError("not there yet")
        self.there.set()
        return list(await super().list_guests())


async def test_a_hypervisor_that_comes_late_is_waited_for(stage: Stage) -> None:
    ids = await had_guests(stage, "b1")
    made = stage.driver()
    late = Late(
        stage.folder / "fake" / "h1", cloud_id=made._cloud_id, capacity=made._capacity,
        faults=made._faults,
    )  # fmt: skip
    async with stage.living(late, targets=[NOWHERE], boot_id="b2"):
        await asyncio.wait_for(late.there.wait(), 60)
        found = await until_found(late, lambda g: g.power is Power.RUNNING)
        assert found.identity.instance_id == ids["runs"]
