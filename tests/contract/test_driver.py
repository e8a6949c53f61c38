"""What every driver does alike, through the port `Driver`. A new driver joins in conftest.py."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from services.compute.flows.console_ports import ConsoleLog, ConsolePiece
from services.compute.flows.ports import Driver, GuestChanged, StepFailed
from services.compute.logic.guest import NO_NOTES, Asking, Guest, Identity, Notes
from services.domain.instance import Power
from tests.contract.conftest import CLOUD_ID, SPEC, Bench
from tests.hypervisors import until

HANGING_S = 90
OTHER_ID = "00000000-0000-4000-8000-000000000000"


async def prepared(bench: Bench, driver: Driver, identity: Identity) -> None:
    await driver.prepare_guest(identity, SPEC, bench.image)


async def running(bench: Bench, driver: Driver, identity: Identity) -> None:
    await prepared(bench, driver, identity)
    await driver.start_guest(identity)


async def whole_guest(driver: Driver) -> Guest:
    (guest,) = await driver.list_guests()
    assert list(await driver.find_guests(guest.identity.instance_id)) == [guest]
    return guest


async def the_guest(driver: Driver) -> Guest:
    """The guest without the name of its run and its notes."""
    return replace(await whole_guest(driver), incarnation="", notes=NO_NOTES)


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
    half_made = await driver.list_guests()
    assert not any(guest.prepared for guest in half_made)
    assert list(await driver.find_guests(identity.instance_id)) == list(half_made)
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


async def test_each_start_is_another_run_which_keeps_its_name(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await prepared(bench, driver, identity)
    names = [(await whole_guest(driver)).incarnation]
    for _ in range(2):
        await driver.start_guest(identity)
        names.append((await whole_guest(driver)).incarnation)
        await driver.mark_applied(identity, len(names))
        await driver.start_guest(identity)
        assert (await whole_guest(await bench.open())).incarnation == names[-1]
        await driver.stop_guest(identity)
    assert names[0] == (await whole_guest(driver)).incarnation == ""
    assert len(set(names)) == 3


async def test_notes_are_kept_beside_the_guest_until_it_is_erased(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await prepared(bench, driver, identity)
    assert (await whole_guest(driver)).notes == NO_NOTES
    await driver.start_guest(identity)
    for notes in (
        Notes(2, "before"),
        Notes(3, "later", Asking(7, "later", 12.5), "boot"),
        Notes(3, ""),
    ):
        await driver.write_notes(identity, notes)
        assert (await whole_guest(await bench.open())).notes == notes
    await driver.stop_guest(identity)
    await driver.mark_applied(identity, 4)
    assert (await whole_guest(driver)).notes == Notes(3, "")
    await driver.erase_guest(identity)
    await prepared(bench, driver, identity)
    assert (await whole_guest(driver)).notes == NO_NOTES


async def test_notes_of_what_is_not_there_are_refused_but_may_be_repeated(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await running(bench, driver, identity)
    for stranger in (replace(identity, epoch=6), replace(identity, instance_id=OTHER_ID)):
        with pytest.raises(Exception) as failed:  # noqa: PT011  # any error but one is right
            await driver.write_notes(stranger, Notes(2))
        assert not isinstance(failed.value, StepFailed)
    assert (await whole_guest(driver)).notes == NO_NOTES


async def test_a_guest_that_is_asked_to_stop_ends_by_itself(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    assert (await driver.capabilities()).graceful_stop
    await running(bench, driver, identity)
    await console_with(driver, identity, b"STEAD-GUEST")

    async def is_off() -> bool:
        await driver.ask_guest_to_stop(identity)
        return (await the_guest(driver)).power is Power.OFF

    await until(is_off)
    await driver.ask_guest_to_stop(identity)
    assert (await the_guest(driver)).power is Power.OFF


async def test_asking_what_is_not_there_does_nothing(driver: Driver, identity: Identity) -> None:
    await driver.ask_guest_to_stop(identity)
    assert list(await driver.list_guests()) == []


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
    assert list(await stranger.find_guests(identity.instance_id)) == []
    assert (await the_guest(driver)).identity.cloud_id == CLOUD_ID


async def test_only_the_guests_of_the_instance_that_is_asked_for_are_found(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    other = replace(identity, instance_id=OTHER_ID)
    assert list(await driver.find_guests(OTHER_ID)) == []
    await prepared(bench, driver, identity)
    assert list(await driver.find_guests(OTHER_ID)) == []
    await running(bench, driver, other)
    for of, power in ((identity, Power.OFF), (other, Power.RUNNING)):
        (guest,) = await driver.find_guests(of.instance_id)
        assert (guest.identity, guest.power) == (of, power)
    assert len(await driver.list_guests()) == 2
    await driver.stop_guest(other)
    await driver.erase_guest(other)
    assert list(await driver.find_guests(OTHER_ID)) == []


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


async def test_a_console_is_read_from_any_offset_on(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await prepared(bench, driver, identity)
    assert await driver.read_console_from(identity, None, 10) == ConsolePiece(b"", 0)
    assert await driver.read_console_from(identity, 0, 10) == ConsolePiece(b"", 0)
    await driver.start_guest(identity)
    await console_with(driver, identity, b"STEAD-GUEST")
    await driver.stop_guest(identity)
    whole = (await driver.read_console_log(identity, 1 << 20)).content
    read = b""
    while piece := (await driver.read_console_from(identity, len(read), 7)).content:
        assert len(piece) <= 7
        read += piece
    assert read == whole
    end = ConsolePiece(b"", len(whole))
    assert await driver.read_console_from(identity, len(whole), 7) == end
    assert await driver.read_console_from(identity, None, 7) == end
    for gone in (len(whole) + 1, -1):
        with pytest.raises(StepFailed) as failed:
            await driver.read_console_from(identity, gone, 7)
        assert failed.value.reason == "CONSOLE_OFFSET_GONE"


async def test_what_is_typed_reaches_the_guest_and_its_answer_the_log(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    can = await driver.capabilities()
    assert can.console_input
    await running(bench, driver, identity)
    # What is typed before there is a shell, a real guest throws away; the fake one has no prompt.
    await console_with(driver, identity, b"STEAD-GUEST" if can.driver == "fake" else b"# ")
    async with driver.open_keyboard(identity) as keyboard:
        # The fake guest knows `count`; the real one knows functions.
        await keyboard.write(b"count() { seq $1; }\n")
        if can.driver != "fake":
            # What is typed while a shell is busy is echoed twice, by the terminal and by the shell.
            await console_with(driver, identity, b"seq $1; }\r\nroot@web-1:/root# ")
        await keyboard.write(b"count 40\n")
        log = await console_with(driver, identity, b"\n40")
    assert b"count 40" in log.content
    numbers = [int(w) for w in log.content.split(b"count 40")[-1].split() if w.isdigit()]
    assert numbers == list(range(1, 41))


async def test_a_keyboard_outlives_a_reboot_and_refuses_while_the_guest_is_off(
    bench: Bench, driver: Driver, identity: Identity
) -> None:
    await prepared(bench, driver, identity)
    async with driver.open_keyboard(identity) as keyboard:
        for boots in (1, 2):
            with pytest.raises(StepFailed) as refused:
                await keyboard.write(b"nobody reads this")
            assert refused.value.reason == "CONSOLE_NOT_READY"
            await driver.start_guest(identity)

            async def has_booted(boots: int = boots) -> bool:
                log = await driver.read_console_log(identity, 1 << 20)
                return log.content.count(b"STEAD-GUEST") == boots

            await until(has_booted)
            await keyboard.write(f"echo boot-{boots}\n".encode())
            await console_with(driver, identity, f"boot-{boots}".encode())
            await driver.stop_guest(identity)
    log = await driver.read_console_log(identity, 1 << 20)
    assert b"nobody" not in log.content


async def test_the_console_of_nobody_is_not_ready(driver: Driver, identity: Identity) -> None:
    with pytest.raises(StepFailed) as failed:
        await driver.read_console_from(identity, 0, 7)
    assert failed.value.reason == "CONSOLE_NOT_READY"


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
