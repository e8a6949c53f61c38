"""One host's life in the control plane: hello, view, observations, beats; until superseded.

Owns the stream's course and its repair. Does not act on guests (`reconcile`) nor answer questions
(`answer_question`). While the control plane is away the agent keeps its wishes and goes on
working.
"""

import asyncio

from services.compute.flows.hearing import Hearing
from services.compute.flows.ports import (
    Acknowledged,
    Beat,
    BeatAnswered,
    CommandBatch,
    Hello,
    HostProfile,
    Ingress,
    StateStream,
    Superseded,
    ViewWanted,
)
from services.compute.flows.race import race
from services.compute.flows.reconcile import Reconciler, Tools
from services.compute.flows.start_unseen import start_unseen
from services.compute.logic.wanted import View
from services.domain.errors import Broken, CloudError, Unavailable
from services.domain.observation import ObservationOutcome
from services.runtime.log import logger

RECONNECT_S = 0.1
BEAT_S = 15.0
SILENCE_S_MAX = 60.0
GREETING_S_MAX = 60.0


class SupersededError(Exception):
    """Another agent of this host is live; this one ended and touched nothing."""


class Agent:
    """The agent of one host. `viewed` is set from its first view on."""

    def __init__(  # noqa: PLR0913  # all that a host's life depends on
        self,
        profile: HostProfile,
        tools: Tools,
        *,
        cloud_id: str,
        ingress: Ingress,
        reconnect_s_max: float,
        beat_s: float = BEAT_S,
    ) -> None:
        self._beat_s = beat_s
        self.host_id = profile.host_id
        self.viewed = asyncio.Event()
        self._profile = profile
        self.driver = tools.driver
        self._rng = tools.rng
        self._boot_id = tools.boot_id
        self._cloud_id = cloud_id
        self._ingress = ingress
        self._reconnect_s_max = reconnect_s_max
        self._views = 0
        self._to_say = asyncio.Event()
        self._view_wanted = asyncio.Event()
        self._hearing = Hearing(2 * beat_s)
        self.reconciler = Reconciler(tools, cloud_id=cloud_id, spoke=self._to_say.set)

    def receive_command(self, batch: CommandBatch) -> None:
        """Takes a command from the bus; anything that does not count is dropped."""
        if batch.host_id != self.host_id:
            return
        self.reconciler.take_command(batch)
        if batch.incarnation == self.reconciler.wishes.incarnation and batch.inventory_as_of:
            self.reconciler.counter.ask(batch.inventory_as_of)

    def hear_echo(self) -> None:
        """The bus brought back what this host said to itself."""
        self._hearing.hear()

    async def run(self) -> None:
        """Lives until cancelled. Raises SupersededError when another agent of the host is live."""
        await race(self.reconciler.run(), self._speak())

    async def _speak(self) -> None:
        tries, views, logged = 0, self._views, ""
        while True:
            try:
                await self._start_unseen()
                async with self._ingress.open_states() as stream:
                    await self._hold(stream)
            except (CloudError, TimeoutError) as error:
                if self._views != views:
                    tries, views, logged = 0, self._views, ""
                if repr(error) != logged:
                    logged = repr(error)
                    logger().warning("control plane lost", host=self.host_id, error=logged)
            limit_s = min(self._reconnect_s_max, RECONNECT_S * 2.0 ** min(tries, 10))
            tries += 1
            await asyncio.sleep(self._rng.uniform(RECONNECT_S, max(RECONNECT_S, limit_s)))

    async def _start_unseen(self) -> None:
        """Once, as soon as the hypervisor is there, and not after a view has come."""
        if self._boot_id and not self.viewed.is_set():
            try:
                await start_unseen(self.driver, self._boot_id)
            except Exception as error:
                raise _hypervisor_away(error) from error
            self._boot_id = ""

    async def _hold(self, stream: StateStream) -> None:
        async with asyncio.timeout(GREETING_S_MAX):
            await stream.send(await self._hello())
            view = await stream.receive()
        if isinstance(view, Superseded):
            raise SupersededError(self.host_id)
        if not isinstance(view, View):
            raise Broken("VIEW_MISSING", "the first answer to a Hello is a View")
        self._take_view(view, greeted=True)
        await race(
            self._listen(stream),
            self._tell(stream),
            self._beat(stream),
            self._ask(stream),
            self.reconciler.counter.tell(stream),
        )

    async def _hello(self) -> Hello:
        try:
            return Hello(
                profile=self._profile,
                capacity=await self.driver.capacity(),
                capabilities=await self.driver.capabilities(),
                guests=tuple(await self.driver.list_guests()),
            )
        except Exception as error:
            raise _hypervisor_away(error) from error

    def _take_view(self, view: View, *, greeted: bool = False) -> None:
        if (view.cloud_id, view.host_id) != (self._cloud_id, self.host_id):
            raise Broken("VIEW_OF_ANOTHER", f"this is a view of {view.cloud_id}/{view.host_id}")
        self.reconciler.take_view(view, greeted=greeted)
        if not self.viewed.is_set():
            logger().info("view taken", host=self.host_id, incarnation=view.incarnation)
        self._views += 1
        self.viewed.set()
        self._to_say.set()

    async def _listen(self, stream: StateStream) -> None:
        while True:
            async with asyncio.timeout(SILENCE_S_MAX):
                telling = await stream.receive()
            match telling:
                case View():
                    self._take_view(telling)
                case Acknowledged(results):
                    self._take_acknowledgements(results)
                case BeatAnswered(wanted_revision):
                    if wanted_revision > self.reconciler.wishes.known_revision:
                        self._view_wanted.set()
                case Superseded():
                    raise SupersededError(self.host_id)

    def _take_acknowledgements(self, results: tuple[tuple[int, ObservationOutcome], ...]) -> None:
        outcomes = dict(results)
        if ObservationOutcome.SUPERSEDED in outcomes.values():
            raise SupersededError(self.host_id)
        for numbered in self.reconciler.outbox.acknowledge(outcomes):
            if numbered.observation.absent:
                self.reconciler.end(numbered.observation.claim)
            elif outcomes[numbered.sequence] is ObservationOutcome.NO_SUCH_CLAIM:
                self._view_wanted.set()
        if self.reconciler.wishes.crowded:
            self._view_wanted.set()
        self._to_say.set()

    async def _tell(self, stream: StateStream) -> None:
        while True:
            await self._to_say.wait()
            self._to_say.clear()
            numbered = self.reconciler.outbox.take()
            if numbered:
                await stream.send(numbered)

    async def _beat(self, stream: StateStream) -> None:
        # Hosts that greet together shall not beat together.
        await asyncio.sleep(self._rng.uniform(0.0, self._beat_s))
        while True:
            await stream.send(Beat(self._hearing.is_silent()))
            overdue = self.reconciler.outbox.overdue()
            if overdue:
                await stream.send(overdue)
            await self._hearing.pause(self._beat_s)

    async def _ask(self, stream: StateStream) -> None:
        while True:
            await self._view_wanted.wait()
            self._view_wanted.clear()
            await stream.send(ViewWanted())
            # A conductor whose replica is behind answers an old view: do not ask in a tight loop.
            await asyncio.sleep(RECONNECT_S)


def _hypervisor_away(error: Exception) -> Unavailable:
    return Unavailable("HYPERVISOR_AWAY", f"the hypervisor did not answer: {error}")
