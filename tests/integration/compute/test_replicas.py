"""A host whose api replica is lost turns to the next one, and loses nothing by it."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from services.compute.edges.replicas import Door, Replicas
from services.compute.flows.answer_question import answer_question
from services.compute.flows.console_ports import Question
from services.compute.logic.guest import Claim
from services.domain.instance import Power
from tests.fakes.ingress import FakeIngress, FakeLine
from tests.integration.compute.conftest import CLOUD_ID, Stage, wanted
from tests.integration.compute.test_console import TAKE_OVER, WRITE, terminal_of

IMAGE = b"an image"


@pytest.fixture
async def other(stage: Stage) -> AsyncIterator[tuple[FakeIngress, str]]:
    """A second replica."""
    ingress, target = FakeIngress(CLOUD_ID), f"unix:{stage.folder}/other.sock"
    await ingress.start(target)
    yield ingress, target
    await ingress.stop()


async def test_a_host_goes_from_a_lost_replica_to_the_next_and_works_on(
    stage: Stage, other: tuple[FakeIngress, str]
):
    replicas = [(stage.ingress, stage.target), other]
    for ingress, _ in replicas:
        ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE
    driver = stage.driver()
    async with stage.living(driver, targets=[target for _, target in replicas]) as host:
        await host.viewed()
        if not stage.ingress.hosts["h1"].hellos:
            replicas.reverse()
        for number in range(3):
            (lost, lost_target), (ingress, _) = replicas
            hellos = len(ingress.hosts["h1"].hellos)
            await lost.stop()
            await ingress.until(lambda i=ingress, n=hellos: len(i.hosts["h1"].hellos) > n)
            wish = ingress.want("h1", wanted(f"n{number}", IMAGE))
            await ingress.push_view("h1")
            key = (wish.instance_id, wish.epoch)
            seen = ingress.hosts["h1"].seen
            await ingress.until(lambda s=seen, k=key: k in s and s[k].power == Power.RUNNING)
            await lost.start(lost_target)
            replicas.reverse()
        assert len(await driver.list_guests()) == 3


async def test_one_types_whichever_replica_it_came_by(stage: Stage, other: tuple[FakeIngress, str]):
    ingress, target = other
    async with terminal_of(stage) as terminal:
        first = await terminal.opened(WRITE)
        claim = Claim(terminal.wish.instance_id, 1)
        for ask, told in ((WRITE, "CONSOLE_IN_USE"), (TAKE_OVER, "")):
            line = ingress.lines[told] = FakeLine()
            question = Question(told, target, claim, ask)
            host = terminal.host
            work = answer_question(question, consoles=host.consoles, attachments=host.attachments)
            terminal.works.append(asyncio.ensure_future(work))
            await line.until(lambda line=line: line.failure or line.opened is not None)
            assert line.failure == told
        await first.until(lambda: first.failure == "CONSOLE_TAKEN_OVER")


def test_hosts_begin_at_different_replicas_and_each_at_the_same_one_again():
    replicas = Replicas(["a:1", "b:1", "c:1"])
    begins = Counter(Door(replicas, f"h{n}").target for n in range(300))
    assert min(begins[target] for target in replicas.targets) > 60
    assert Door(replicas, "h1").target == Door(replicas, "h1").target


def test_a_host_comes_round_to_the_first_replica_again():
    door = Door(Replicas(["a:1", "b:1"]), "h1")
    first = door.target
    door.turn()
    assert door.target != first
    door.turn()
    assert door.target == first
