"""Who hurts a simulated cloud, by seed: which faults at all, when, whom, for how long."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

from services.domain.instance import Power
from services.domain.resources import Resources
from tests.simulation.bus import NATS, Odds
from tests.simulation.database import POSTGRES
from tests.simulation.world import USERS, Shape, Slot, World

PAUSE_S = 2.5


def shape_of(seed: int) -> Shape:
    """How large the cloud of a seed is."""
    rng = Random(f"{seed}/shape")  # it has to be the same again
    hosts = rng.choice([1, 2, 3, 5])
    return Shape(
        conductors=rng.choice([1, 2, 2, 3]),
        schedulers=rng.choice([1, 2]),
        apis=rng.choice([1, 2]),
        hosts=hosts,
        capacity=Resources(rng.choice([4, 8, 16]), 16384, 200),
        quota=rng.choice([10, 40]),
        switch=rng.random() < 0.5,
    )


class Nemesis:
    """Hurts until cancelled; `heal` makes everything whole. `done` counts what was done."""

    def __init__(self, world: World) -> None:
        self.done: Counter[str] = Counter()
        self._world = world
        self._rng = rng = world.draws("nemesis")
        menu: list[Callable[[], None]] = [
            self._kill, self._kill, self._kill, self._stop, self._part, self._part, self._nats,
            self._postgres, self._lose_answers, self._lose_power, self._slow, self._hypervisor,
            self._poweroff, self._compact, self._lose_machine,
        ]  # fmt: skip
        if world.shape.restored:
            # Where an instance moved since the backup, its guest is unknown, and doubled by right.
            menu.remove(self._lose_machine)
        # Of each seed another mixture, of every fourth a mild one.
        self._menu = [fault for fault in menu if rng.random() < 0.6] or [self._kill]
        self._calm = rng.random() < 0.25

    async def live(self) -> None:
        """Hurts until cancelled."""
        rng = self._rng
        if rng.random() < 0.7:
            odds = [0.0, 0.02, 0.1, 0.3]
            broker = self._world.broker
            broker.odds = Odds(rng.choice(odds), rng.choice(odds), rng.choice(odds))
        pause_s = PAUSE_S * (4 if self._calm else 1)
        while True:
            await asyncio.sleep(rng.expovariate(1 / pause_s))
            fault = rng.choice(self._menu)
            fault()
            self.done[fault.__name__.strip("_")] += 1

    def heal(self) -> None:
        """Everything is whole from now on."""
        world = self._world
        world.broker.odds = Odds()
        world.network.heal()
        world.network.slow = 0.0
        world.database.up, world.database.lost = True, 0.0
        if not world.broker.up:
            world.broker.start()
        for machine in world.machines.values():
            machine.trouble = 0.0
        for slot in world.slots.values():
            if slot.being is not None:
                slot.being.doom = -1
                if slot.being.paused:
                    slot.being.resume()
            world.start(slot)

    def _later(self, delay_s: float, do: Callable[[], None]) -> None:
        self._world.loop.call_later(delay_s, do, context=self._world.users.context())

    def _slot(self) -> Slot:
        slots = list(self._world.slots.values())
        kind = self._rng.choice(["conductor", "scheduler", "api", "host"])
        return self._rng.choice([slot for slot in slots if slot.name.startswith(kind)])

    def _kill(self) -> None:
        """At a point between any two of its steps that are to come."""
        slot, rng = self._slot(), self._rng
        being = slot.being
        if being is None or not being.alive:
            return
        restart_s = rng.choice([0.3, 2.0, 8.0]) * rng.uniform(0.5, 1.5)
        if slot.name.startswith("host") and rng.random() < 0.15:
            restart_s = rng.uniform(46.0, 90.0)
        being.doom = rng.choice([1, 30, 300])
        being.doom = rng.randrange(being.doom)
        being.on_death[-1] = lambda: self._world.start_in(slot, restart_s)

    def _stop(self) -> None:
        slot, rng = self._slot(), self._rng
        being = slot.being
        if being is None or not being.alive or being.paused:
            return
        being.pause()
        for_s = rng.choice([rng.uniform(0.1, 5.0), rng.uniform(0.1, 5.0), rng.uniform(40.0, 80.0)])
        self._later(for_s, lambda: being.resume() if being.paused else None)

    def _part(self) -> None:
        names = [*self._world.slots, NATS, POSTGRES, USERS]
        one, other = self._rng.sample(names, 2)
        if self._rng.random() < 0.3:
            self._world.network.cut(one, other)
        for name in names:
            if name.split("-")[0] == other.split("-")[0]:
                self._world.network.cut(one, name)
        self._later(self._rng.uniform(0.5, 25.0), self._world.network.heal)

    def _nats(self) -> None:
        broker = self._world.broker
        if broker.up:
            broker.stop()
            self._later(self._rng.uniform(0.1, 15.0), lambda: None if broker.up else broker.start())

    def _postgres(self) -> None:
        database = self._world.database
        database.up = False

        def back() -> None:
            database.up = True

        self._later(self._rng.choice([0.05, 1.0, 10.0]) * self._rng.uniform(0.5, 1.5), back)

    def _lose_answers(self) -> None:
        database = self._world.database
        database.lost = self._rng.choice([0.05, 0.3])

        def over() -> None:
            database.lost = 0.0

        self._later(self._rng.uniform(1.0, 10.0), over)

    def _lose_power(self) -> None:
        world, rng = self._world, self._rng
        slot = world.slots[rng.choice(list(world.machines))]
        world.kill(slot)
        world.machines[slot.name].lose_power()
        world.start_in(slot, rng.choice([rng.uniform(1.0, 20.0), rng.uniform(46.0, 90.0)]))

    def _lose_machine(self) -> None:
        """Off for longer than the cloud waits; the admin brings it back."""
        world = self._world
        alive = sorted(world.machines.keys() - world.lost)
        if alive and len(world.lost) < 2:
            world.lose(self._rng.choice(alive))

    def _slow(self) -> None:
        network = self._world.network
        network.slow = self._rng.choice([0.05, 0.3])

        def over() -> None:
            network.slow = 0.0

        self._later(self._rng.uniform(1.0, 15.0), over)

    def _hypervisor(self) -> None:
        machine = self._rng.choice(list(self._world.machines.values()))
        machine.trouble = self._rng.choice([0.1, 0.5])

        def over() -> None:
            machine.trouble = 0.0

        self._later(self._rng.uniform(1.0, 20.0), over)

    def _poweroff(self) -> None:
        """An owner switches a guest off from inside."""
        machine = self._rng.choice(list(self._world.machines.values()))
        running = [g for g in machine.guests.values() if g.power == Power.RUNNING]
        if running:
            machine.switch_off(self._rng.choice(running))

    def _compact(self) -> None:
        rows = self._world.store.rows
        rows.compacted = max(rows.compacted, rows.head - self._rng.choice([0, 5, 50]))
