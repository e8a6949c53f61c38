"""The agent of a fake host against a real gRPC server: every wish is met, whatever breaks."""

import asyncio
import hashlib

import pytest
from stead.internal.v1 import compute_pb2

from services.compute.edges.drivers.fake import FakeDriver, Faults
from services.compute.edges.drivers.fake_journal import read_guests
from services.compute.flows.agent import SupersededError
from services.compute.flows.answer_question import answer_question
from services.compute.flows.console_ports import ConsoleLogAsk, Question
from services.compute.logic.guest import Claim
from services.domain.instance import Power
from tests.integration.compute.conftest import (
    CAPACITY,
    CLOUD_ID,
    STEPS_MAX,
    Stage,
    until_found,
    wanted,
)

IMAGE = b"an image " * 100_000


def is_running(observation) -> bool:
    return observation.power == Power.RUNNING and observation.applied_generation == 1


def is_absent(observation) -> bool:
    return observation.absent


def store(stage: Stage, content: bytes = IMAGE) -> None:
    stage.ingress.blobs[hashlib.sha256(content).hexdigest()] = content


async def test_a_command_builds_a_guest_and_another_erases_it(stage: Stage):
    store(stage)
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.viewed()
        wish = wanted("a", IMAGE)
        host.command(wish)
        await host.until_seen(wish, is_running)
        assert [g.power for g in await driver.list_guests()] == [Power.RUNNING]
        gone = wanted("a", IMAGE, present=False, generation=2)
        host.command(gone)
        seen = await host.until_seen(gone, is_absent)
        assert seen.applied_generation == 2
        assert await driver.list_guests() == []
        assert read_guests(stage.folder / "fake" / "h1") == {}


async def test_a_wish_of_the_view_is_built_without_a_command(stage: Stage):
    store(stage)
    wish = stage.ingress.want("h1", wanted("a", IMAGE))
    async with stage.living(stage.driver()) as host:
        await host.until_seen(wish, is_running)


async def test_a_lost_command_is_made_up_for_by_the_answer_to_a_beat(stage: Stage):
    store(stage)
    async with stage.living(stage.driver()) as host:
        await host.viewed()
        wish = stage.ingress.want("h1", wanted("a", IMAGE))
        answer = compute_pb2.BeatAnswer(wanted_revision=wish.revision)
        response = compute_pb2.StreamInstanceStatesResponse(beat_answer=answer)
        await stage.ingress.hosts["h1"].outgoing.put(response)
        await host.until_seen(wish, is_running)
        assert stage.ingress.hosts["h1"].view_asks == 1
        assert stage.ingress.hosts["h1"].incarnation == 1


async def test_two_hundred_guests_fetch_one_image_once(stage: Stage):
    store(stage)
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.viewed()
        wishes = [wanted(f"n{n}", IMAGE) for n in range(200)]
        host.command(*wishes)
        for wish in wishes:
            await host.until_seen(wish, is_running)
        assert stage.ingress.fetches.total() == 1
        sequences = [o.sequence for o in stage.ingress.hosts["h1"].heard]
        assert sequences == list(range(1, 201))


async def test_a_restarted_agent_adopts_its_guests_and_starts_none_twice(stage: Stage):
    store(stage)
    wish = wanted("a", IMAGE)
    async with stage.living(stage.driver()) as host:
        await host.viewed()
        host.command(wish)
        await host.until_seen(wish, is_running)
    stage.ingress.hosts["h1"].seen.clear()
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.until_seen(wish, is_running)
        (guest,) = stage.ingress.hosts["h1"].hellos[-1].guests
        assert (guest.instance_id, guest.epoch) == (wish.instance_id, 1)
        log = await driver.read_console_log((await driver.list_guests())[0].identity, 1000)
        assert log.content.count(b"STEAD-GUEST") == 1


async def test_an_interrupted_build_is_resumed(stage: Stage):
    store(stage)
    wish = stage.ingress.want("h1", wanted("a", IMAGE))
    slow = stage.driver(delay_s=30.0)
    async with stage.living(slow) as host:
        await host.viewed()
        await until_found(slow)
    driver = stage.driver()
    assert [guest.prepared for guest in await driver.list_guests()] == [False]
    async with stage.living(driver) as host:
        await host.until_seen(wish, is_running)
        assert [guest.prepared for guest in await driver.list_guests()] == [True]


async def test_a_guest_without_a_claim_is_reported_and_left_alone(stage: Stage):
    store(stage)
    wish = wanted("a", IMAGE)
    async with stage.living(stage.driver()) as host:
        await host.viewed()
        host.command(wish)
        await host.until_seen(wish, is_running)
    stage.ingress.hosts["h1"].claims.clear()
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.viewed()
        other = wanted("b", IMAGE)
        host.command(other)
        await host.until_seen(other, is_running)
        assert len(stage.ingress.hosts["h1"].hellos[-1].guests) == 1
        assert len(await driver.list_guests()) == 2


async def test_a_failed_build_is_erased_told_once_and_not_tried_again(stage: Stage):
    store(stage)
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.viewed()
        wish = wanted("fail-a", IMAGE)
        host.command(wish)
        seen = await host.until_seen(wish, is_absent)
        assert seen.failure.reason == "FAKE_FAILURE"
        assert await driver.list_guests() == []
        host.command(wish)
        again = wanted("b", IMAGE)
        host.command(again)
        await host.until_seen(again, is_running)
        heard = [o for o in stage.ingress.hosts["h1"].heard if o.instance_id == wish.instance_id]
        assert all(o.absent and o.failure.reason == "FAKE_FAILURE" for o in heard)
        assert len(await driver.list_guests()) == 1


async def test_steps_that_fail_for_a_moment_are_tried_again(stage: Stage):
    store(stage)
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.viewed()
        wish = wanted("flaky-a", IMAGE)
        host.command(wish)
        await host.until_seen(wish, is_running)
        gone = wanted("flaky-a", IMAGE, present=False, generation=2)
        host.command(gone)
        await host.until_seen(gone, is_absent)
        assert await driver.list_guests() == []


async def test_a_missing_image_fails_the_build(stage: Stage):
    async with stage.living(stage.driver()) as host:
        await host.viewed()
        wish = wanted("a", IMAGE)
        host.command(wish)
        seen = await host.until_seen(wish, is_absent)
        assert seen.failure.reason == "BLOB_NOT_FOUND"


async def test_an_image_that_is_corrupt_in_the_store_fails_the_build(stage: Stage):
    stage.ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE[:-1] + b"x"
    async with stage.living(stage.driver()) as host:
        await host.viewed()
        wish = wanted("a", IMAGE)
        host.command(wish)
        seen = await host.until_seen(wish, is_absent)
        assert seen.failure.reason == "IMAGE_CORRUPT"
        assert list((stage.folder / "cache").iterdir()) == []


async def test_a_broken_transfer_is_resumed_at_its_offset(stage: Stage):
    store(stage)
    stage.ingress.break_fetch_after_bytes = 300_000
    async with stage.living(stage.driver()) as host:
        await host.viewed()
        wish = wanted("a", IMAGE)
        host.command(wish)
        await host.until_seen(wish, is_running)
        first, second = stage.ingress.fetch_offsets
        assert first == 0
        assert second >= 300_000


async def test_a_delete_does_not_wait_for_the_image(stage: Stage):
    store(stage)
    stage.ingress.hold_fetches.clear()
    async with stage.living(stage.driver()) as host:
        await host.viewed()
        host.command(wanted("a", IMAGE))
        await stage.ingress.until(lambda: stage.ingress.fetches.total() == 1)
        gone = wanted("a", IMAGE, present=False, generation=2)
        host.command(gone)
        await host.until_seen(gone, is_absent)


async def test_while_the_control_plane_is_away_work_goes_on_and_is_told_afterwards(stage: Stage):
    store(stage)
    driver = stage.driver(delay_s=0.2)
    async with stage.living(driver) as host:
        await host.viewed()
        wish = wanted("a", IMAGE)
        host.command(wish)
        assert not (await until_found(driver)).applied_generation
        await stage.ingress.stop()
        await until_found(driver, lambda guest: guest.applied_generation == 1)
        await stage.ingress.start(stage.target)
        await host.until_seen(wish, is_running)
        assert stage.ingress.hosts["h1"].incarnation == 2
        assert stage.ingress.hosts["h1"].heard[-1].sequence == 1


async def test_an_owner_who_switches_off_is_observed_and_not_overruled(stage: Stage):
    store(stage)
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.viewed()
        wish = wanted("a", IMAGE)
        host.command(wish)
        await host.until_seen(wish, is_running)
        driver.power_off_from_inside(Claim(wish.instance_id, 1))
        seen = await host.until_seen(wish, lambda o: o.power == Power.OFF)
        assert seen.applied_generation == 1
        assert [g.power for g in await driver.list_guests()] == [Power.OFF]


async def test_a_superseded_agent_ends_and_touches_nothing(stage: Stage):
    store(stage)
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.viewed()
        wish = wanted("a", IMAGE)
        host.command(wish)
        await host.until_seen(wish, is_running)
        await stage.ingress.supersede("h1")
        with pytest.raises(SupersededError):
            async with asyncio.timeout(60):
                await host.task
        assert [g.power for g in await driver.list_guests()] == [Power.RUNNING]


async def test_commands_of_another_incarnation_or_host_are_dropped(stage: Stage):
    store(stage)
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.viewed()
        stage.ingress.hosts["h1"].incarnation = 7
        host.command(wanted("a", IMAGE))
        stage.ingress.hosts["h1"].claims.clear()
        stage.ingress.hosts["h1"].incarnation = 1
        known = wanted("b", IMAGE)
        host.command(known)
        await host.until_seen(known, is_running)
        assert len(await driver.list_guests()) == 1


async def test_the_end_of_a_console_log_reaches_who_asked(stage: Stage):
    store(stage)
    driver = stage.driver()
    async with stage.living(driver) as host:
        await host.viewed()
        wish = wanted("a", IMAGE)
        host.command(wish)
        await host.until_seen(wish, is_running)
        claim = Claim(wish.instance_id, 1)
        await answer_question(
            Question("t1", stage.target, claim, ConsoleLogAsk(1000)),
            consoles=host.consoles,
            attachments=host.attachments,
        )
        chunk, end = stage.ingress.answers["t1"]
        assert chunk.chunk == f"STEAD-GUEST name=a id={wish.instance_id}\n".encode()
        assert end.console_log_end.start_offset == 0
        await answer_question(
            Question("t2", "", Claim(wish.instance_id, 9), ConsoleLogAsk(1000)),
            consoles=host.consoles,
            attachments=host.attachments,
        )
        (failure,) = stage.ingress.answers["t2"]
        assert failure.failure.reason == "CONSOLE_NOT_READY"


class Fainting(FakeDriver):
    """Its guests go off as soon as they are on."""

    async def start_guest(self, identity):
        await super().start_guest(identity)
        await self.stop_guest(identity)


async def test_a_guest_that_does_not_stay_on_fails_with_its_reason(stage: Stage):
    store(stage)
    driver = Fainting(
        stage.folder / "fake" / "h1", cloud_id=CLOUD_ID, capacity=CAPACITY, faults=Faults()
    )
    async with stage.living(driver) as host:
        await host.viewed()
        wish = wanted("a", IMAGE)
        host.command(wish)
        seen = await host.until_seen(wish, lambda observation: observation.HasField("failure"))
        assert seen.failure.reason == "GUEST_ENDS_AT_ONCE"


async def test_one_that_rests_begins_no_step_that_waited_for_its_turn(stage: Stage):
    """More instances than steps at a time: those that wait are not begun, to be cut off then."""
    store(stage)
    driver = stage.driver(delay_s=0.3)
    async with stage.living(driver) as host:
        await host.viewed()
        host.command(*(wanted(f"i{n}", IMAGE) for n in range(3 * STEPS_MAX)))
        await until_found(driver)
        async with asyncio.timeout(60):
            await host.agent.reconciler.rest()
        begun = len(await driver.list_guests())
        assert 0 < begun <= STEPS_MAX
        await asyncio.sleep(0.5)
        assert len(await driver.list_guests()) == begun
