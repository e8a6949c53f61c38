"""The fake driver while its steps take time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from services.compute.edges.drivers.fake import FakeDriver, Faults
from services.compute.flows.ports import ImageFile
from services.compute.logic.guest import NO_NOTES, Identity
from services.domain.instance import Power
from services.domain.kinds import Architecture, ImageKind
from services.runtime.ids import new_id
from tests.contract.conftest import CAPACITY, CLOUD_ID, SPEC


@pytest.mark.parametrize("step", ["stop", "start", "note"])
async def test_what_happens_to_a_guest_during_a_step_is_kept(tmp_path: Path, step: str) -> None:
    """What was typed into it, and that it switched itself off."""
    faults = Faults()
    driver = FakeDriver(tmp_path / "guests", cloud_id=CLOUD_ID, capacity=CAPACITY, faults=faults)
    identity = Identity(CLOUD_ID, new_id(), 5)
    image = ImageFile(Path(__file__), ImageKind.RAW, Architecture.X86_64)
    await driver.prepare_guest(identity, SPEC, image)
    await driver.start_guest(identity)
    faults.delay_s = 0.05
    steps = {
        "stop": lambda: driver.stop_guest(identity),
        "start": lambda: driver.start_guest(identity),
        "note": lambda: driver.write_notes(identity, replace(NO_NOTES, boot=7)),
    }
    working = asyncio.create_task(steps[step]())
    await asyncio.sleep(0.01)
    driver.type_into(identity.claim, b"hello\n")
    driver.power_off_from_inside(identity.claim)
    await working
    assert b"hello\n" in (await driver.read_console_log(identity, 1000)).content
    (guest,) = await driver.find_guests(identity.instance_id)
    assert guest.power is (Power.RUNNING if step == "start" else Power.OFF)
    await driver.close()
