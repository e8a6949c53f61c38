"""Guests that stand still, in memory or on disk, and go on: what every driver that can do it does
alike, through the port `Driver`.
"""

import pytest

from services.compute.flows.ports import Driver, StepFailed
from services.compute.logic.guest import Identity
from services.domain.instance import Power
from tests.contract.conftest import Bench
from tests.contract.test_driver import console_with, prepared, running, whole_guest


async def test_a_paused_guest_is_the_same_run_and_goes_on(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    assert (await driver.capabilities()).pause
    await running(bench, driver, identity)
    run = (await whole_guest(driver)).incarnation
    for turn, power in (
        (driver.pause_guest, Power.PAUSED),
        (driver.unpause_guest, Power.RUNNING),
    ):
        for _ in range(2):
            await turn(identity)
            for agent in (driver, await bench.open()):
                guest = await whole_guest(agent)
                assert (guest.power, guest.incarnation) == (power, run)


async def test_a_suspended_guest_goes_on_where_it_was_and_says_so(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    assert (await driver.capabilities()).suspend
    await running(bench, driver, identity)
    before = await console_with(driver, identity, b"STEAD-GUEST")
    await driver.mark_applied(identity, 2)
    for _ in range(2):
        await driver.suspend_guest(identity)
        guest = await whole_guest(await bench.open())
        assert guest.power is Power.SUSPENDED
        assert guest.incarnation, "it is in the midst of a run"
    await driver.mark_applied(identity, 3)
    for _ in range(2):
        await driver.resume_guest(identity)
        guest = await whole_guest(await bench.open())
        assert (guest.power, guest.applied_generation) == (Power.RUNNING, 3)
        assert guest.incarnation
    after = await driver.read_console_log(identity, 1 << 20)
    assert after.content.count(b"STEAD-GUEST") == before.content.count(b"STEAD-GUEST")


@pytest.mark.parametrize("still", ["pause", "suspend"])
async def test_what_stands_still_can_be_stopped_started_anew_and_erased(
    bench: Bench, driver: Driver, identity: Identity, still: str
) -> None:
    await running(bench, driver, identity)
    await getattr(driver, f"{still}_guest")(identity)
    run = (await whole_guest(driver)).incarnation
    await driver.stop_guest(identity)
    assert (await whole_guest(driver)).power is Power.OFF
    await driver.start_guest(identity)
    guest = await whole_guest(driver)
    assert guest.power is Power.RUNNING
    assert guest.incarnation not in ("", run)
    await getattr(driver, f"{still}_guest")(identity)
    await driver.stop_guest(identity)
    await driver.erase_guest(identity)
    assert list(await driver.list_guests()) == []
    assert bench.host.leftovers(identity) == []


@pytest.mark.parametrize("turn", ["pause", "unpause", "suspend"])
async def test_what_is_off_is_left_off(
    bench: Bench, driver: Driver, identity: Identity, turn: str
) -> None:
    await prepared(bench, driver, identity)
    await getattr(driver, f"{turn}_guest")(identity)
    assert (await whole_guest(driver)).power is Power.OFF


async def test_what_keeps_no_memory_cannot_be_resumed(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await prepared(bench, driver, identity)
    with pytest.raises(StepFailed) as refused:
        await driver.resume_guest(identity)
    assert refused.value.reason == "MEMORY_NOT_KEPT"
    assert (await whole_guest(driver)).power is Power.OFF
