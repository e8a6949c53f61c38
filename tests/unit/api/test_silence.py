"""Who is silent for too long is told so, with the reason; time is the test's own."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.api.edges.image_store import LOCK, ImageStore
from services.api.flows import import_image
from services.api.flows.attend_host import attend_host
from services.domain.errors import Invalid, Unavailable
from services.runtime.clock import RealClock
from tests.fakes.history import OneHistory
from tests.unit.api.test_attend_host import Records
from tests.warp import run_warped


async def silent() -> AsyncIterator[Any]:
    await asyncio.sleep(3600)
    yield None


def test_a_host_that_says_nothing_is_let_go() -> None:
    async def attended() -> None:
        async for _ in attend_host(Records(), OneHistory(), RealClock(), silent()):
            raise AssertionError("nothing was said")

    with pytest.raises(Unavailable) as refused:
        run_warped(attended())
    assert refused.value.reason == "HOST_SILENT"


def test_an_upload_that_stalls_is_ended() -> None:
    with pytest.raises(Invalid) as refused:
        run_warped(import_image._next(silent()))
    assert refused.value.reason == "UPLOAD_STALLED"


def test_a_store_that_another_replica_holds_is_not_waited_for_forever(tmp_path: Path) -> None:
    async def decide() -> None:
        async with ImageStore(tmp_path).alone():
            raise AssertionError("two decide at once")

    ImageStore(tmp_path)
    with (tmp_path / LOCK).open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable) as refused:
            run_warped(decide())
    assert refused.value.reason == "STORE_BUSY"
