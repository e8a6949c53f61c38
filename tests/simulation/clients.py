"""Whoever asks a simulated cloud for something: again with the same request id while nobody knows,
and each try written down. Judges nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

from services.api.flows.ports import Accepted, Row
from services.api.logic.caller import Caller, Role
from services.domain.errors import CloudError, Unavailable
from tests.checkers.history import Call, Ending, Mark, Seen
from tests.simulation.parts import ApiDoor
from tests.simulation.world import World

TRIES_MAX = 12


@dataclass(slots=True)
class Work:
    """What is left to be asked for, and what came of it."""

    left: int
    calls: list[Call] = field(default_factory=list)
    seen: list[Seen | Mark] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    # Guests (host, instance, epoch) for which an admin gave the word that they may go.
    condemned: set[tuple[str, str, int]] = field(default_factory=set)


def caller_of(project_id: str, *, admin: bool = False) -> Caller:
    """Somebody of a project, or of the cloud."""
    role = Role.CLOUD_ADMIN if admin else Role.MEMBER
    return Caller(f"user of {project_id}", project_id, role, math.inf)


class Client:
    """One who asks in the name of a caller."""

    def __init__(self, world: World, work: Work, name: str, caller: Caller) -> None:
        self.caller = caller
        self._world = world
        self._work = work
        self._name = name
        self.rng: Random = world.draws(name)

    async def ask_for(self, wish: Any, resource_id: str) -> Call:
        """Asks under a new request id, until it is known what came of it."""
        wish.request_id = self._world.ids.new_id()
        method = type(wish).__name__.removesuffix("Request")
        return await self.until_known(method, wish, resource_id)

    async def until_known(self, method: str, wish: Any, resource_id: str) -> Call:
        """The first try whose outcome is known, or the last one."""
        call = await self.once(method, wish, resource_id)
        for again in range(1, TRIES_MAX):
            if call.ending is not Ending.UNKNOWN:
                break
            await asyncio.sleep(min(4.0, 0.05 * 2**again) * self.rng.uniform(0.5, 1.0))
            call = await self.once(method, wish, resource_id)
        return call

    async def once(self, method: str, wish: Any, resource_id: str) -> Call:
        """One try, at any api."""
        world, invoked_s = self._world, self._world.loop.time()
        outcome: Accepted | CloudError
        try:
            outcome = await world.ask(
                self.rng.choice(world.apis), lambda door: self.accept(door, wish)
            )
        except CloudError as error:
            outcome = error
        return self.note(method, wish, outcome, resource_id=resource_id, invoked_s=invoked_s)

    def note(
        self,
        method: str,
        wish: Any,
        outcome: Accepted | CloudError,
        *,
        resource_id: str,
        invoked_s: float,
    ) -> Call:
        """Writes a try down."""
        ending, reason, operation_id, version = Ending.OK, "", "", 0
        if isinstance(outcome, CloudError):
            reason = outcome.reason
            ending = Ending.UNKNOWN if isinstance(outcome, Unavailable) else Ending.REFUSED
            self.refused(resource_id, reason)
        else:
            resource_id, version = outcome.resource.id, outcome.resource.version
            operation_id = outcome.operation.id if outcome.operation else ""
            self.learn(outcome.resource)
        call = Call(
            self._name, method, self.caller.project_id, wish.request_id, fingerprint(wish),
            invoked_s, self._world.loop.time(), ending, reason, resource_id, operation_id, version,
        )  # fmt: skip
        self._work.calls.append(call)
        return call

    async def accept(self, door: ApiDoor, wish: Any) -> Accepted:
        """What an api does with a wish."""
        return await door.conductor.wish_accept(self.caller, wish)

    def learn(self, row: Row) -> None:
        """What an answer shows."""

    def refused(self, resource_id: str, reason: str) -> None:
        """What a refusal shows."""


def fingerprint(wish: Any) -> str:
    """Names what was asked for, whoever asks and under whatever request id."""
    content = type(wish)()
    content.CopyFrom(wish)
    content.request_id = ""
    return hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()
