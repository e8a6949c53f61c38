"""The operator's own program fences what is DOWN, and nothing that is heard of. MECHANICS C5."""

from __future__ import annotations

import pytest

from services.conductor.edges.fence_program import FenceProgram
from services.conductor.flows.fence import Fencer
from services.conductor.logic.leases import Beat
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Clock, Sent, conductor, hello
from tests.integration.conductor.test_evacuate import down_by_rows, silence


@pytest.mark.parametrize(("command", "fenced"), [("true", "1"), ("false", "0"), ("/no/such", "0")])
async def test_the_operators_program_says_whether_a_host_is_dead(
    place: Place, command: str, fenced: str
) -> None:
    clock = Clock()
    async with conductor(place.url, Sent()) as made:
        await made.greeter.greet(hello())
        await made.greeter.greet(hello("h2"))
        silence(place)
        await down_by_rows(made)
        fencer = Fencer(made.store, made.committer, clock, FenceProgram(command, 20.0))
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
        fencer = Fencer(made.store, made.committer, Clock(), FenceProgram("true", 20.0))
        await fencer.fence_all()
        assert place.sql("SELECT fenced FROM host") == "0"
        silence(place)
        await fencer.fence_all()
        assert place.sql("SELECT fenced FROM host") == "1"


async def test_the_program_gets_nothing_of_the_conductors_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STEAD_CONDUCTOR_DATABASE_URL", "postgres://secret")
    assert await FenceProgram("sh -c '! env | grep -q STEAD' --", 20.0).fence("h1")


async def test_a_program_that_does_not_end_says_nothing() -> None:
    assert not await FenceProgram("sh -c 'sleep 600' --", 0.2).fence("h1")
