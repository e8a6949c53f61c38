"""The conductor, as hosts speak to it: what many say at once travels in one round.

Owns the lanes of hosts, and the road's proof. Does not own what users ask (`conductor`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

from stead.internal.v1 import compute_pb2, conductor_pb2, conductor_pb2_grpc

from services.api.edges.conductor_calls import CALL_S, called
from services.api.edges.conductor_messages import error_from
from services.api.edges.conversation import Conversation
from services.api.flows.ports import BeatKnown, Hello, Inventory, Observation
from services.domain.errors import CloudError
from services.domain.observation import ObservationOutcome
from services.runtime.lane import Lane

ROAD_S = 1.0
INVENTORIES_MAX = 16


class HostRecords:
    """What hosts say: implements `flows.ports.HostRecords`."""

    def __init__(
        self, stub: conductor_pb2_grpc.ConductorServiceAsyncStub, conversation: Conversation
    ) -> None:
        self._stub = stub
        self._conversation = conversation
        self._observe: Lane[conductor_pb2.HostObservation, ObservationOutcome] = Lane(
            self._send_observe, name="observe"
        )
        self._beat: Lane[conductor_pb2.HostBeat, BeatKnown] = Lane(self._send_beat, name="beat")
        self._inventories: Lane[conductor_pb2.HostInventory, bool] = Lane(
            self._send_inventories, name="inventories", items_max=INVENTORIES_MAX
        )
        self._greet: Lane[compute_pb2.Hello, compute_pb2.View] = Lane(
            self._send_greet, name="greet", items_max=1
        )

    def lanes(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for any call to be answered."""
        lanes = (self._observe, self._beat, self._inventories, self._greet)
        return [*(lane.run() for lane in lanes), self._prove_road()]

    async def host_greet(self, hello: Hello) -> compute_pb2.View:
        """A new incarnation and its view."""
        assert isinstance(hello, compute_pb2.Hello)
        return await self._greet.submit(hello, hello.host_id)

    async def view_read(self, host_id: str, incarnation: int) -> compute_pb2.View:
        """The view of a live incarnation."""
        request = conductor_pb2.ReadViewRequest(host_id=host_id, incarnation=incarnation)
        answer = await called(self._stub.ReadView(request, timeout=CALL_S))
        if answer.HasField("error"):
            raise error_from(answer.error)
        return answer.view

    async def digests_read(self, host_id: str, incarnation: int) -> frozenset[str]:
        """The digests that the claims of a live incarnation name."""
        view = await self.view_read(host_id, incarnation)
        return frozenset(wanted.spec.image.digest for wanted in view.wanted)

    async def observations_apply(
        self, host_id: str, incarnation: int, observations: Sequence[Observation]
    ) -> list[ObservationOutcome]:
        """Commits what a host saw; what became of each."""
        answers: list[asyncio.Future[ObservationOutcome]] = []
        for observation in observations:
            assert isinstance(observation, compute_pb2.Observation)
            item = conductor_pb2.HostObservation(
                host_id=host_id, incarnation=incarnation, observation=observation
            )
            answers.append(self._observe.put(item, host_id, size_bytes=item.ByteSize()))
        return [await answer for answer in answers]

    async def beat_renew(self, host_id: str, incarnation: int, bus_silent: bool) -> BeatKnown:
        """Renews the host's lease; `bus_silent` where commands would not reach it."""
        item = conductor_pb2.HostBeat(
            host_id=host_id, incarnation=incarnation, bus_silent=bus_silent
        )
        return await self._beat.submit(item, host_id)

    async def inventory_report(self, host_id: str, incarnation: int, inventory: Inventory) -> bool:
        """Tells which guests a host has; whether its incarnation is the live one."""
        assert isinstance(inventory, compute_pb2.Inventory)
        item = conductor_pb2.HostInventory(
            host_id=host_id, incarnation=incarnation, inventory=inventory
        )
        return await self._inventories.submit(item, host_id, size_bytes=item.ByteSize())

    async def _send_inventories(
        self, inventories: Sequence[conductor_pb2.HostInventory]
    ) -> list[bool | Exception]:
        request = conductor_pb2.ReportInventoriesRequest(inventories=inventories)
        answer = await called(self._stub.ReportInventories(request, timeout=CALL_S))
        return [not one for one in answer.superseded]

    async def _send_observe(
        self, observations: Sequence[conductor_pb2.HostObservation]
    ) -> list[ObservationOutcome | Exception]:
        request = conductor_pb2.ObserveRequest(observations=observations)
        round_ = conductor_pb2.ConverseRequest(observe=request)
        answer = await self._conversation.ask(round_, CALL_S)
        return [ObservationOutcome(result.outcome) for result in answer.observe.results]

    async def _prove_road(self) -> None:
        # No host's beat: it says that one would have come through. Source: MECHANICS D5, ADR 0010.
        while True:
            with contextlib.suppress(CloudError):
                await self._send_beat(())
            await asyncio.sleep(ROAD_S)

    async def _send_beat(
        self, beats: Sequence[conductor_pb2.HostBeat]
    ) -> list[BeatKnown | Exception]:
        round_ = conductor_pb2.ConverseRequest(beat=conductor_pb2.BeatRequest(beats=beats))
        answer = await self._conversation.ask(round_, CALL_S)
        return [BeatKnown(r.superseded, r.wanted_revision) for r in answer.beat.results]

    async def _send_greet(
        self, hellos: Sequence[compute_pb2.Hello]
    ) -> list[compute_pb2.View | Exception]:
        (hello,) = hellos
        request = conductor_pb2.GreetRequest(hello=hello)
        answer = await called(self._stub.Greet(request, timeout=CALL_S))
        return [error_from(answer.error) if answer.HasField("error") else answer.view]
