"""A compute dies by SIGKILL right before and right after each step of its driver; the next one ends
what it began, and nothing is made twice. The cases come from the steps that the agent takes.
"""

import asyncio
import hashlib
import inspect
import re
import signal
import sys

import pytest
from stead.internal.v1 import compute_pb2

from services.compute.edges.drivers.fake_journal import read_guests
from services.compute.flows import take_step
from services.domain.instance import Power
from tests.integration.compute.conftest import Stage, wanted
from tests.integration.compute.test_process import (
    IMAGE,
    WITH_US,
    Process,
    command,
    nats_port,
    until_running,
)

__all__ = ["nats_port"]
TAKEN = sorted(set(re.findall(r"driver\.(\w+)\(", inspect.getsource(take_step))))
# The wish at which each step is taken.
AT = {
    "prepare_guest": "create",
    "start_guest": "create",
    "mark_applied": "create",
    "write_notes": "reboot",
    "ask_guest_to_stop": "reboot",
    "pause_guest": "pause",
    "unpause_guest": "unpause",
    "suspend_guest": "suspend",
    "resume_guest": "resume",
    "stop_guest": "delete",
    "erase_guest": "delete",
}
# What it is before, and what is wanted then.
TURNS = {
    "pause": (Power.RUNNING, Power.PAUSED),
    "unpause": (Power.PAUSED, Power.RUNNING),
    "suspend": (Power.RUNNING, Power.SUSPENDED),
    "resume": (Power.SUSPENDED, Power.RUNNING),
}
QUICK = {("prepare_guest", "after"), ("erase_guest", "before")}


class Dying(Process):
    """One that dies at a step."""

    async def die_at(self, step: str, moment: str) -> None:
        with self.log.open("ab") as log:
            module = ("-m", "tests.integration.compute.dying", step, moment)
            self.running = await asyncio.create_subprocess_exec(
                *WITH_US, sys.executable, *module, env=self._environment, stderr=log
            )
        self._stack.push_async_callback(self.end, signal.SIGKILL)


def cases() -> list[object]:
    return [
        pytest.param(s, m, marks=() if (s, m) in QUICK else (pytest.mark.slow,), id=f"{s}-{m}")
        for s in TAKEN
        for m in ("before", "after")
    ]


async def until_applied(stage: Stage, wish: compute_pb2.Wanted, generation: int) -> None:
    seen, key = stage.ingress.hosts["h1"].seen, (wish.instance_id, wish.epoch)
    await stage.ingress.until(lambda: key in seen and seen[key].applied_generation == generation)


def test_every_step_that_an_agent_takes_is_tried() -> None:
    assert set(TAKEN) == set(AT)


@pytest.mark.parametrize(("step", "moment"), cases())
async def test_a_compute_killed_around_a_step_ends_it_and_makes_nothing_twice(
    stage: Stage, nats_port: int, step: str, moment: str
) -> None:
    stage.ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE
    process = Dying(stage, nats_port)
    before, power = TURNS.get(AT[step], (Power.RUNNING, Power.RUNNING))
    made = wish = wanted("a", IMAGE)
    if AT[step] != "create":
        await process.start()
        await process.until_ready()
        await command(stage, nats_port, "h1", made)
        await until_running(stage, "h1", made)
        if before is not Power.RUNNING:
            await command(stage, nats_port, "h1", wanted("a", IMAGE, generation=2, power=before))
            await until_applied(stage, made, 2)
        await process.end(signal.SIGKILL)
        wish = wanted(
            "a", IMAGE, generation=3, power=power, grace_s=60,
            boot=1 + (AT[step] == "reboot"), present=AT[step] != "delete",
        )  # fmt: skip
    stage.ingress.want("h1", wish)
    await process.die_at(step, moment)
    await command(stage, nats_port, "h1", wish)
    number = await asyncio.wait_for(process.running.wait(), 60)
    assert number == -signal.SIGKILL
    await process.start()
    await process.until_ready()
    guests = stage.folder / "state" / "fake" / "h1"
    if AT[step] == "delete":
        await stage.ingress.until(lambda: not read_guests(guests))
    else:
        await until_applied(stage, wish, wish.generation)
        (guest,) = read_guests(guests).values()
        assert (guest.starts, guest.power) == (wish.spec.boot, power)
    assert await process.end(signal.SIGTERM) == 0
