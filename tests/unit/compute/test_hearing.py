"""Whether a host's bus is silent. MECHANICS D5, last sentence."""

from __future__ import annotations

import asyncio

from services.compute.flows.hearing import Hearing

LONG_S, SHORT_S = 60.0, 0.05


async def test_a_bus_that_brings_nothing_back_is_silent_until_it_does() -> None:
    hearing = Hearing(SHORT_S)
    assert not hearing.is_silent()
    await asyncio.sleep(2 * SHORT_S)
    assert hearing.is_silent()
    hearing.hear()
    assert not hearing.is_silent()


async def test_a_bus_that_is_heard_is_not_silent() -> None:
    hearing = Hearing(LONG_S)
    hearing.hear()
    assert not hearing.is_silent()


async def test_the_control_plane_is_told_at_once_that_the_bus_is_back() -> None:
    """The pause between beats ends, which may be long; where nothing was told it does not."""
    hearing = Hearing(0.0)
    hearing.is_silent()
    await asyncio.sleep(SHORT_S)
    assert hearing.is_silent()
    pausing = asyncio.ensure_future(hearing.pause(3 * LONG_S))
    await asyncio.sleep(0)
    hearing.hear()
    await asyncio.wait_for(pausing, LONG_S)

    steady = Hearing(LONG_S)
    steady.is_silent()
    pausing = asyncio.ensure_future(steady.pause(3 * LONG_S))
    steady.hear()
    done, _ = await asyncio.wait({pausing}, timeout=SHORT_S)
    assert not done
    pausing.cancel()
