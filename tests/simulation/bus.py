"""A NATS that loses, duplicates, delays and reorders, or is gone: what `services.runtime.bus` is to
a service.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.simulation.loop import BEING, Being
from tests.simulation.network import Network

Receive = Callable[[bytes], Awaitable[None]]
RECONNECT_S = 2.0
NATS = "nats"


@dataclass(slots=True)
class Odds:
    """Of how many messages out of one what becomes."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0


@dataclass(slots=True, eq=False)
class _Subscription:
    being: Being
    subject: str
    group: str
    queue: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    heard: bool = True


class Broker:
    """The server: subscriptions of all processes, in the order in which they came."""

    def __init__(self, network: Network, rng: random.Random) -> None:
        self.network = network
        self.odds = Odds()
        self.up = True
        # Told of each message that is sent, by subject; whether that one is lost.
        self.loses: Callable[[str, bytes], bool] = lambda subject, payload: False
        self._rng = rng
        self._subscriptions: dict[int, _Subscription] = {}

    def stop(self) -> None:
        """Queued messages and subscriptions are lost."""
        self.up = False
        for subscription in self._subscriptions.values():
            subscription.heard = False

    def start(self) -> None:
        """Clients come back one by one."""
        self.up = True
        for subscription in self._subscriptions.values():
            self._hear_again(subscription)

    def reaches(self, being: Being) -> bool:
        """Whether the process is connected now."""
        return self.up and self.network.passes(being.name, NATS)

    def hears(self, subject: str) -> bool:
        """Whether anybody has subscribed."""
        return any(one.subject == subject for one in self._subscriptions.values())

    def add(self, subscription: _Subscription) -> Callable[[], None]:
        """Takes a subscription; gives the way to end it."""
        number = self.network.loop.next_serial()
        self._subscriptions[number] = subscription

        def end() -> None:
            self._subscriptions.pop(number, None)

        subscription.being.on_death[number] = end
        return end

    def publish(self, being: Being, subject: str, payload: bytes) -> None:
        """Takes a message from a process."""
        if not self.reaches(being) or self.loses(subject, payload):
            return
        groups: dict[str, list[_Subscription]] = {}
        for subscription in self._subscriptions.values():
            if subscription.subject == subject and subscription.heard:
                groups.setdefault(subscription.group, []).append(subscription)
        for group, members in groups.items():
            for member in [self._rng.choice(members)] if group else members:
                self._carry(member, payload)

    def _carry(self, to: _Subscription, payload: bytes) -> None:
        rng, odds = self._rng, self.odds
        if rng.random() < odds.lost:
            return
        for _ in range(2 if rng.random() < odds.doubled else 1):
            delay_s = self.network.delay_s()
            if rng.random() < odds.late:
                delay_s += rng.uniform(0.01, 3.0)
            self.network.at(to.being, delay_s, lambda: self._arrive(to, payload))

    def _arrive(self, to: _Subscription, payload: bytes) -> None:
        if to.heard and self.reaches(to.being):
            to.queue.put_nowait(payload)

    def _hear_again(self, subscription: _Subscription) -> None:
        def heard() -> None:
            subscription.heard = self.up

        delay_s = self._rng.uniform(0.0, RECONNECT_S)
        self.network.at(subscription.being, delay_s, heard)


class SimulatedBus:
    """One process's connection: implements what services use of `services.runtime.bus.Bus`."""

    def __init__(self, broker: Broker, being: Being) -> None:
        self._broker = broker
        self._being = being

    @property
    def connected(self) -> bool:
        return self._broker.reaches(self._being)

    async def publish(self, subject: str, payload: bytes) -> None:
        await asyncio.sleep(0)
        self._broker.publish(self._being, subject, payload)

    async def subscribe(
        self, subject: str, receive: Receive, queue: str = ""
    ) -> Callable[[], Awaitable[None]]:
        subscription = _Subscription(self._being, subject, queue, heard=self._broker.up)
        end = self._broker.add(subscription)

        async def hear() -> None:
            while True:
                payload = await subscription.queue.get()
                try:
                    await receive(payload)
                except Exception as error:  # noqa: BLE001  # as the real one: one bad message ends nothing
                    loop = self._broker.network.loop
                    loop.errors.append(f"bus message failed: {subject}: {error!r}")

        hearing = self._being.spawn(hear(), name=f"hear {subject}")

        async def stop() -> None:
            end()
            hearing.cancel()

        return stop

    async def close(self) -> None:
        """Nothing is held."""


def is_dead() -> bool:
    """Whether whoever asks belongs to a dead process."""
    being = BEING.get()
    return being is not None and not being.alive
