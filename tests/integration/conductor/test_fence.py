"""The operator's own program fences what is DOWN, and nothing that is heard of. MECHANICS C5."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.conductor.edges.fence_program import OUTPUT_MAX, FenceProgram
from services.conductor.flows.fence import Fencer
from services.conductor.logic.leases import Beat
from services.domain.errors import Unavailable
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Clock, Sent, conductor, hello
from tests.integration.conductor.test_evacuate import down_by_rows, silence


@pytest.mark.parametrize(("program", "fenced"), [("true", "1"), ("false", "0"), ("/no/such", "0")])
async def test_the_operators_program_says_whether_a_host_is_dead(
    place: Place, program: str, fenced: str
) -> None:
    clock = Clock()
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        await made.greeter.greet(hello("h2"))
        silence(place)
        await down_by_rows(made)
        fencer = Fencer(made.store, made.committer, clock, FenceProgram([program], 20.0))
        await fencer.fence_all()
        assert place.sql("SELECT fenced FROM host WHERE id = 'h1'") == fenced
        assert place.sql("SELECT fenced FROM host WHERE id = 'h2'") == "0"


async def test_who_has_beaten_since_is_not_switched_off(place: Place) -> None:
    """Its row says DOWN still: states follow leases now and then."""
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        silence(place)
        await down_by_rows(made)
        await made.leaser.beat([Beat("h1", 1)])
        fencer = Fencer(made.store, made.committer, Clock(), FenceProgram(["true"], 20.0))
        await fencer.fence_all()
        assert place.sql("SELECT fenced FROM host") == "0"
        silence(place)
        await fencer.fence_all()
        assert place.sql("SELECT fenced FROM host") == "1"


async def test_the_program_gets_nothing_of_the_conductors_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STEAD_CONDUCTOR_DATABASE_URL", "postgres://secret")
    assert await FenceProgram(["sh", "-c", "! env | grep -q STEAD"], 20.0).fence("h1")


async def test_a_program_that_does_not_end_says_nothing() -> None:
    assert not await FenceProgram(["sh", "-c", "sleep 600"], 0.2).fence("h1")


async def test_what_a_program_leaves_behind_neither_delays_its_word_nor_lives_on(
    tmp_path: Path,
) -> None:
    """A child that keeps the output open would have made it late."""
    script = f"sleep 600 & echo $! > {tmp_path}/child; exit 0"
    assert await FenceProgram(["sh", "-c", script], 30.0).fence("h1")
    child = int((tmp_path / "child").read_text())
    async with asyncio.timeout(60):
        for _ in iter(lambda: runs(child), False):
            await asyncio.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_of_much_output_only_the_end_is_kept() -> None:
    """It runs in the conductor, whose memory is bounded."""
    with capture_logs() as logs:
        assert await FenceProgram(["sh", "-c", "seq 1 200000"], 60.0).fence("h1")
    told = next(one["output"] for one in logs if one["event"] == "the fence program ended")
    assert told.endswith("\n200000\n")
    assert len(told) <= OUTPUT_MAX


class Tired:
    """A driver that fails for one host in a way that nobody foresaw, and counts."""

    name = "tired"

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def fence(self, host_id: str) -> bool:
        self.asked.append(host_id)
        await asyncio.sleep(0)
        if host_id == "h1":
            raise Unavailable("PEER_UNREACHABLE", "the switch does not answer")
        await asyncio.sleep(0.05)
        return True


async def test_one_host_that_cannot_be_fenced_holds_up_no_other(place: Place) -> None:
    """And is not asked for again and again."""
    async with conductor(place.url, Sent()) as made:
        for host_id in ("h1", "h2", "h3"):
            await made.greeter.greet(hello(host_id))
        for host_id in ("h1", "h2"):
            silence(place, host_id)
            await down_by_rows(made, host_id)
        driver = Tired()
        fencer = Fencer(made.store, made.committer, Clock(), driver)
        await fencer.fence_all()
        assert place.sql("SELECT string_agg(fenced::text, ' ' ORDER BY id) FROM host") == "0 1 0"
        await fencer.fence_all()
        assert sorted(driver.asked) == ["h1", "h2"]
