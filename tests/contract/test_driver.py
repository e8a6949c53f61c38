"""What every driver does alike, through the port `Driver`. A new driver joins in conftest.py."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from services.compute.flows.ports import ConsoleLog, Driver, GuestChanged, StepFailed
from services.compute.logic.guest import Guest, Identity
from services.domain.instance import Power
from tests.contract.conftest import CLOUD_ID, SPEC, Bench
from tests.hypervisors import until

HANGING_S = 90


async def prepared(bench: Bench, driver: Driver, identity: Identity) -> None:
    await driver.prepare_guest(identity, SPEC, bench.image)


async def running(bench: Bench, driver: Driver, identity: Identity) -> None:
    await prepared(bench, driver, identity)
    await driver.start_guest(identity)


async def the_guest(driver: Driver) -> Guest:
    (guest,) = await driver.list_guests()
    return guest


async def console_with(driver: Driver, identity: Identity, words: bytes) -> ConsoleLog:
    async def is_there() -> bool:
        return words in (await driver.read_console_log(identity, 1 << 20)).content

    await until(is_there)
    return await driver.read_console_log(identity, 1 << 20)


async def test_a_fresh_host_has_no_guests(driver: Driver) -> None:
    assert list(await driver.list_guests()) == []


async def test_a_driver_says_what_it_can_do_and_what_the_host_has(driver: Driver) -> None:
    can = await driver.capabilities()
    assert can.driver
    assert can.choice_reason
    assert can.image_kinds
    assert can.architectures
    has = await driver.capacity()
    assert min(has.vcpus, has.memory_mib, has.disk_gib) > 0


async def test_a_prepared_guest_is_off_and_carries_its_identity(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await prepared(bench, driver, identity)
    assert await the_guest(driver) == Guest(identity, True, Power.OFF, 0)


async def test_preparing_again_changes_nothing(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await running(bench, driver, identity)
    await driver.mark_applied(identity, 2)
    await prepared(bench, driver, identity)
    assert await the_guest(driver) == Guest(identity, True, Power.RUNNING, 2)


@pytest.mark.parametrize("after_s", [0, 0.001, 0.01, 0.03, 0.06])
async def test_an_interrupted_preparation_is_seen_and_finished_by_the_next(
    bench: Bench, driver: Driver, identity: Identity, after_s: float
) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            await prepared(bench, driver, identity)
    again = await bench.open()
    assert {guest.identity for guest in await again.list_guests()} <= {identity}
    await prepared(bench, again, identity)
    assert await the_guest(again) == Guest(identity, True, Power.OFF, 0)


@pytest.mark.parametrize("after_s", [0, 0.001, 0.01, 0.03, 0.06])
async def test_an_interrupted_preparation_can_be_erased(
    bench: Bench, driver: Driver, identity: Identity, after_s: float
) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            await prepared(bench, driver, identity)
    await driver.erase_guest(identity)
    assert bench.host.leftovers(identity) == []


async def test_what_can_never_be_prepared_fails_for_good_and_can_be_erased(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    spec, image = bench.host.hopeless(bench.image)
    with pytest.raises(StepFailed) as failed:
        await driver.prepare_guest(identity, spec, image)
    assert failed.value.reason.isupper()
    assert not any(guest.prepared for guest in await driver.list_guests())
    await driver.stop_guest(identity)
    await driver.erase_guest(identity)
    assert bench.host.leftovers(identity) == []


async def test_a_started_guest_runs_and_starting_it_again_changes_nothing(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await running(bench, driver, identity)
    assert (await the_guest(driver)).power is Power.RUNNING
    await driver.start_guest(identity)
    assert (await the_guest(driver)).power is Power.RUNNING


async def test_starting_or_marking_a_guest_that_is_not_there_fails_but_may_be_repeated(
    driver: Driver, identity: Identity
) -> None:
    for step in (driver.start_guest(identity), driver.mark_applied(identity, 1)):
        with pytest.raises(Exception) as failed:  # noqa: PT011  # any error but one is right
            await step
        assert not isinstance(failed.value, StepFailed)
    assert list(await driver.list_guests()) == []


async def test_the_applied_generation_survives_power_and_agent_and_never_falls(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await prepared(bench, driver, identity)
    await driver.mark_applied(identity, 3)
    await driver.start_guest(identity)
    await driver.mark_applied(identity, 4)
    await driver.mark_applied(identity, 3)
    await driver.stop_guest(identity)
    assert await the_guest(await bench.open()) == Guest(identity, True, Power.OFF, 4)


async def test_a_stopped_guest_is_off_and_can_be_started_again(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await running(bench, driver, identity)
    for _ in range(2):
        await driver.stop_guest(identity)
        assert (await the_guest(driver)).power is Power.OFF
    await driver.start_guest(identity)
    assert (await the_guest(driver)).power is Power.RUNNING


async def test_stopping_and_erasing_what_is_not_there_does_nothing(
    driver: Driver, identity: Identity
) -> None:
    await driver.stop_guest(identity)
    await driver.erase_guest(identity)
    assert list(await driver.list_guests()) == []


async def test_an_erased_guest_leaves_nothing(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await running(bench, driver, identity)
    assert bench.host.leftovers(identity)
    await driver.stop_guest(identity)
    for _ in range(2):
        await driver.erase_guest(identity)
        assert list(await driver.list_guests()) == []
        assert bench.host.leftovers(identity) == []
    assert await driver.read_console_log(identity, 1024) == ConsoleLog(b"", 0)


async def test_an_erased_guest_can_be_made_anew_under_another_epoch(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await prepared(bench, driver, identity)
    await driver.mark_applied(identity, 9)
    await driver.erase_guest(identity)
    later = replace(identity, epoch=identity.epoch + 1)
    await prepared(bench, driver, later)
    assert await the_guest(driver) == Guest(later, True, Power.OFF, 0)


async def test_steps_for_another_epoch_leave_the_guest_alone(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await running(bench, driver, identity)
    other = replace(identity, epoch=identity.epoch - 1)
    await driver.stop_guest(other)
    await driver.erase_guest(other)
    with pytest.raises(Exception):  # noqa: B017, PT011  # that it fails is the point
        await driver.mark_applied(other, 7)
    assert await driver.read_console_log(other, 1024) == ConsoleLog(b"", 0)
    assert await the_guest(driver) == Guest(identity, True, Power.RUNNING, 0)


async def test_guests_outlive_the_agent_and_are_found_by_the_next(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await running(bench, driver, identity)
    await driver.mark_applied(identity, 1)
    await driver.close()
    assert await the_guest(await bench.open()) == Guest(identity, True, Power.RUNNING, 1)


async def test_guests_of_another_cloud_are_not_seen(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await running(bench, driver, identity)
    stranger = await bench.open("ba9876543210")
    assert list(await stranger.list_guests()) == []
    assert (await the_guest(driver)).identity.cloud_id == CLOUD_ID


async def test_a_guest_says_on_its_console_who_it_is(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await prepared(bench, driver, identity)
    assert await driver.read_console_log(identity, 1024) == ConsoleLog(b"", 0)
    await driver.start_guest(identity)
    line = f"STEAD-GUEST name={SPEC.name} id={identity.instance_id}".encode()
    whole = await console_with(driver, identity, line)
    assert whole.start_offset == 0
    end = await driver.read_console_log(identity, 10)
    assert len(end.content) == 10
    assert end.start_offset >= len(whole.content) - 10
    await driver.stop_guest(identity)
    assert line in (await driver.read_console_log(identity, 1 << 20)).content


async def test_a_guest_that_ends_behind_the_agents_back_is_told_of(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await running(bench, driver, identity)
    told: asyncio.Queue[GuestChanged] = asyncio.Queue()

    async def watch() -> None:
        async for change in driver.watch_guests():
            told.put_nowait(change)

    watching = asyncio.create_task(watch())
    try:
        await asyncio.sleep(0)
        bench.host.pull_the_plug(driver, identity)
        async with asyncio.timeout(HANGING_S):
            assert (await told.get()).instance_id == identity.instance_id
        assert (await the_guest(driver)).power in (Power.OFF, Power.CRASHED)
    finally:
        watching.cancel()
        await asyncio.wait({watching})
