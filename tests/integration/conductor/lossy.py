"""A whole cloud around the conductor's flows that loses, doubles and disorders what it carries.

One random source decides everything, so that a run can be told by its number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from services.conductor.edges import messages
from services.conductor.flows.decide import Decision
from services.conductor.logic.items import Record
from services.conductor.logic.observation import Seen
from services.conductor.logic.rows import ClaimRow, InstanceRow
from services.conductor.logic.steps import Command, Place
from services.domain.instance import Power
from services.domain.observation import ObservationOutcome
from services.domain.resources import Resources
from tests.integration.conductor.flows import Conductor, hello

Delivery = Callable[[], Awaitable[None]]


class LossyBus:
    """Keeps messages until they are delivered: late, out of order, twice or never."""

    def __init__(self, random: Random) -> None:
        self.cloud: Cloud | None = None
        self.healed = False
        self._random = random
        self._waiting: list[Delivery] = []

    def send(self, delivery: Delivery) -> None:
        """Takes a message; it may be lost or doubled at once."""
        copies = 1 if self.healed else self._random.choice((0, 1, 1, 1, 2))
        self._waiting += [delivery] * copies

    async def deliver(self, most: int) -> None:
        """Delivers some of what waits, in any order."""
        self._random.shuffle(self._waiting)
        now, self._waiting = self._waiting[:most], self._waiting[most:]
        for delivery in now:
            await delivery()

    async def place(self, places: Sequence[Place], min_revision: int) -> None:
        cloud = self.cloud
        assert cloud is not None
        for place in places:
            self.send(lambda row=place.instance: cloud.schedule(row))  # type: ignore[misc]  # mypy cannot infer a lambda with a default

    async def command(self, host_id: str, incarnation: int, commands: Sequence[Command]) -> None:
        cloud = self.cloud
        assert cloud is not None
        for told in commands:
            self.send(
                lambda row=told.instance, claim=told.claim: cloud.hosts[host_id].hear(  # type: ignore[misc]  # as above
                    incarnation, row, claim
                )
            )

    async def feed(
        self, records: Sequence[Record], head_revision: int, *, compacted_revision: int
    ) -> None:
        """Nobody follows."""


@dataclass
class Wish:
    """What a host knows to be wanted under a claim."""

    revision: int
    generation: int
    present: bool
    run: bool


@dataclass
class Host:
    """A host that builds, fails and forgets, and says what it sees until it is heard."""

    id: str
    cloud: Cloud
    incarnation: int = 0
    view_revision: int = 0
    sequence: int = 0
    wishes: dict[tuple[str, int], Wish] = field(default_factory=dict)
    guests: dict[tuple[str, int], bool] = field(default_factory=dict)
    failed: set[tuple[str, int]] = field(default_factory=set)
    old_words: list[Seen] = field(default_factory=list)

    async def greet(self) -> None:
        """Begins anew with the view; guests outlive it."""
        view = await self.cloud.conductor().greeter.greet(hello(self.id, Resources(3, 300, 30)))
        self.incarnation, self.view_revision, self.sequence = view.incarnation, view.revision, 0
        self.wishes, self.failed = {}, set()
        for row, claim in view.wanted:
            self._take(row, claim)

    async def hear(self, incarnation: int, row: InstanceRow, claim: ClaimRow) -> None:
        """A command: counts only under this incarnation, above the view and what is known."""
        known = self.wishes.get((row.id, claim.epoch))
        floor = max(self.view_revision, known.revision if known else 0)
        if incarnation == self.incarnation and claim.wanted_revision > floor:
            self._take(row, claim)

    def _take(self, row: InstanceRow, claim: ClaimRow) -> None:
        wanted = messages.wanted(row, claim)
        self.wishes[row.id, claim.epoch] = Wish(
            wanted.revision, wanted.generation, wanted.spec.present, wanted.spec.run
        )

    async def work(self) -> None:
        """Brings one claim to what is wanted, or fails, and says so; may repeat old words."""
        random = self.cloud.random
        for key in random.sample(sorted(self.wishes), min(2, len(self.wishes))):
            wish = self.wishes[key]
            unlucky = not self.cloud.bus.healed and random.random() < 0.3
            if unlucky and wish.present and key not in self.guests:
                self.failed.add(key)
            built = wish.present and key not in self.failed
            able = not built or self._switch(key, wish, unlucky)
            if not built:
                self.guests.pop(key, None)
            await self._say(key, wish, able)
        if self.old_words and random.random() < 0.3:
            old = random.choice(self.old_words)
            (outcome,) = await self.cloud.conductor().observer.observe([old])
            assert outcome is not ObservationOutcome.APPLIED, "nothing counts twice"

    def _switch(self, key: tuple[str, int], wish: Wish, unlucky: bool) -> bool:
        """Brings a guest's power to what is wanted, if it is not unlucky; it may change by itself
        afterwards.
        """
        runs = self.guests.setdefault(key, True)
        if unlucky and runs is not wish.run:
            return False
        own_will = not self.cloud.bus.healed and self.cloud.random.random() < 0.1
        self.guests[key] = wish.run is not own_will
        return True

    async def _say(self, key: tuple[str, int], wish: Wish, able: bool) -> None:
        self.sequence += 1
        built, failed = key in self.guests, key in self.failed or not able
        seen = Seen(
            *key, self.id, self.incarnation, self.sequence,
            applied_generation=wish.generation if built and able else 0,
            power=Power.RUNNING if self.guests.get(key) else Power.OFF,
            absent=not built,
            failure=("UNLUCKY", "the test said so") if failed else None,
            failed_generation=0 if able else wish.generation,
        )  # fmt: skip
        (outcome,) = await self.cloud.conductor().observer.observe([seen])
        self.old_words.append(seen)
        if not built and outcome in (
            ObservationOutcome.APPLIED,
            ObservationOutcome.NO_SUCH_CLAIM,
        ):
            del self.wishes[key]


class Cloud:
    """Conductors, hosts, a scheduler without sense, and the bus between them."""

    def __init__(self, conductors: list[Conductor], bus: LossyBus, random: Random) -> None:
        self.conductors = conductors
        self.bus = bus
        self.random = random
        self.hosts = {f"h{n}": Host(f"h{n}", self) for n in range(3)}
        bus.cloud = self

    def conductor(self) -> Conductor:
        """Any of them."""
        return self.random.choice(self.conductors)

    async def schedule(self, row: InstanceRow) -> None:
        """Decides for any host, also one that is full, is not there, or was excluded."""
        fit = [host_id for host_id in self.hosts if host_id not in row.excluded_host_ids]
        if self.bus.healed:
            host_id = self.random.choice(fit) if fit else ""
        else:
            host_id = self.random.choice([*self.hosts, "nowhere", ""])
        decision = Decision(row.id, row.attempt, host_id, 3, {"up": 3})
        self.bus.send(lambda: self.conductor().decider.decide([decision]))

    async def tick(self) -> None:
        """Something happens everywhere."""
        await self.conductor().advancer.reconcile()
        await asyncio.sleep(0)
        await self.bus.deliver(8)
        for host in self.hosts.values():
            await host.work()
            if not self.bus.healed and self.random.random() < 0.15:
                await host.greet()
