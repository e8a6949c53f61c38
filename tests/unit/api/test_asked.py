"""What the conductor is told of how long a caller still waits: as it is when it is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stead.internal.v1 import conductor_pb2
from stead.v1 import instance_pb2

from services.api.edges import present_call
from services.api.edges.conductor import Conductor
from services.api.logic.caller import Caller, Role
from services.domain.errors import NotFound
from services.domain.kinds import ResourceKind

ME = Caller("me", "p", Role.MEMBER, float(2**40))
HELD_S = 0.3


class Held:
    """A conversation whose first round takes a while; `rounds` is what was asked."""

    def __init__(self) -> None:
        self.rounds: list[conductor_pb2.ConverseRequest] = []

    async def ask(
        self, round_: conductor_pb2.ConverseRequest, timeout_s: float
    ) -> conductor_pb2.ConverseResponse:
        """Answers that there is no such thing."""
        gone = conductor_pb2.ItemError(code=5, reason="INSTANCE_NOT_FOUND")
        self.rounds.append(round_)
        if len(self.rounds) == 1:
            await asyncio.sleep(HELD_S)
        if round_.HasField("read"):
            found = [conductor_pb2.QueryResult() for _ in round_.read.queries]
            return conductor_pb2.ConverseResponse(read=conductor_pb2.ReadResponse(results=found))
        became = [conductor_pb2.MutationResult(error=gone) for _ in round_.accept.mutations]
        return conductor_pb2.ConverseResponse(accept=conductor_pb2.AcceptResponse(results=became))


async def call(conductor: Conductor, what: str) -> None:
    """One call of a caller who waits 10 s."""
    present_call.begin(ME, 10.0)
    if what == "wish":
        wish = instance_pb2.DeleteInstanceRequest()
        with pytest.raises(NotFound):
            await conductor.wish_accept(ME, wish)
    else:
        await conductor.row_read(ME, ResourceKind.INSTANCE, "i")


@pytest.mark.parametrize("what", ["wish", "read"])
async def test_what_has_waited_here_has_less_time_left(what: str) -> None:
    held: Any = Held()
    conductor = Conductor(held, held)
    lanes = [asyncio.ensure_future(lane) for lane in conductor.lanes()]
    first = asyncio.create_task(call(conductor, what))
    await asyncio.sleep(0.01)
    await asyncio.gather(first, *(call(conductor, what) for _ in range(2)))
    for lane in lanes:
        lane.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
    left = [
        asked.time_left_ms
        for round_ in held.rounds
        for asked in (*round_.accept.mutations, *round_.read.queries)
    ]
    assert len(left) == 3
    assert 9_000 < left[0] <= 10_000
    assert all(0 < later <= 10_000 - HELD_S * 900 for later in left[1:])
