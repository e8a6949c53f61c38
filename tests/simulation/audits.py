"""An admin of a simulated cloud who audits it while it is broken, and once more when all is quiet;
and gives the word for guests that nobody claims.

Owns what an audit may never tell. Does not own what it must not tell of a cloud that is whole: a
checker does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from stead.v1 import audit_pb2

from services.api.flows.audit import GuestAsk, Stretch, audit, list_unknown_guests
from services.domain.errors import CloudError, Unavailable
from services.domain.kinds import ClaimRole
from tests.checkers.history import Call, Ending, Row
from tests.fakes.store_rows import Claim
from tests.simulation.clients import Client, Work, caller_of
from tests.simulation.parts import PAGE_KEY, ApiDoor
from tests.simulation.world import World

AUDIT_S = 6.0
# Longer than an audit waits for hosts that do not answer.
SILENCE_S = 90.0
LIST_S = 12.0
SORTED_OUT = 3
TRIES_MAX = 20
Kind = audit_pb2.DifferenceKind
# Records that must agree are written in one commit: no fault lets them be seen apart.
NEVER = frozenset(
    Kind.Value(f"DIFFERENCE_KIND_{name}")
    for name in (
        "LEDGER_DIFFERS", "QUOTA_DIFFERS", "INSTANCE_WITHOUT_CLAIM", "CLAIM_WITHOUT_INSTANCE",
        "TASK_WITHOUT_OPERATION", "OPERATION_WITHOUT_TASK", "OPERATION_WITHOUT_INSTANCE",
        "OPERATION_WITHOUT_DEADLINE",
    )
)  # fmt: skip
# Nor is a guest unknown, unless the database was set back.
STRANGE = frozenset(
    Kind.Value(f"DIFFERENCE_KIND_{name}")
    for name in ("GUEST_WITHOUT_CLAIM", "GUEST_EPOCH_OLDER", "GUEST_EPOCH_ABOVE_HEAD")
)


class Auditor(Client):
    """Audits at moments of the seed, all of the cloud or one host."""

    def __init__(self, world: World, work: Work) -> None:
        super().__init__(world, work, "auditor", caller_of("cloud", admin=True))
        self._never = NEVER if world.shape.restored else NEVER | STRANGE

    async def live(self) -> None:
        """Until cancelled."""
        rng = self.rng
        while True:
            await asyncio.sleep(rng.expovariate(1 / AUDIT_S))
            host_id = rng.choice(["", "", *self._world.machines])
            for found in await self._audited(host_id) or ():
                if found.kind in self._never:
                    self._work.troubles.append(f"an audit tells what cannot be: {found}")
            await self._condemn()

    async def sort_out(self) -> None:
        """Gives the word for some of what nobody claims."""
        for _ in range(SORTED_OUT):
            await self._condemn()

    async def told_at_last(self) -> list[Row]:
        """What an audit of all tells now."""
        for _ in range(TRIES_MAX):
            found = await self._audited("")
            if found is not None:
                return [
                    {
                        "kind": Kind.Name(one.kind), "found": one.found, "host_id": one.host_id,
                        "instance_id": one.instance_id, "epoch": one.epoch,
                        "operation_id": one.operation_id,
                    }
                    for one in found
                ]  # fmt: skip
            await asyncio.sleep(1.0)
        self._work.troubles.append("no audit comes to its end")
        return []

    async def _audited(self, host_id: str) -> list[Any] | None:
        """All differences; None where it broke off."""
        found: list[Any] = []

        def ask(door: ApiDoor) -> AsyncIterator[Stretch]:
            return audit(door.audits, host_id)

        stretches = self._world.stream(self.rng.choice(self._world.apis), ask, SILENCE_S)
        try:
            async with aclosing(stretches):
                async for stretch in stretches:
                    found += stretch.differences
                    if stretch.done is not None:
                        return found
        except CloudError as error:
            if not isinstance(error, Unavailable) and error.reason != "HOST_NOT_FOUND":
                self._work.troubles.append(f"an audit was refused: {error!r}")
        return None

    async def _condemn(self) -> None:
        """The word for guests that nobody claims, and now and then for one that somebody may."""
        world, rng = self._world, self.rng
        if rng.random() < 0.5:
            claims = sorted(world.store.rows.claims.values(), key=lambda c: c.epoch)
            if claims:
                await self._ask_for_wrong(rng.choice(claims))
            return
        ask = GuestAsk("", rng.choice([1, 0]), "")
        try:
            guests, _ = await world.ask(
                rng.choice(world.apis),
                lambda door: list_unknown_guests(door.audits, ask, page_key=PAGE_KEY),
                LIST_S,
            )
        except CloudError:
            return
        for guest in guests:
            if rng.random() < 0.5:
                await self._discard(guest.host_id, guest.instance_id, guest.epoch)

    async def _ask_for_wrong(self, claim: Claim) -> None:
        """The word for a guest that is held must be refused."""
        call = await self._discard(claim.host_id, claim.instance_id, claim.epoch)
        now = self._world.store.rows.claims.get((claim.instance_id, claim.epoch))
        held = [one for one in (claim, now) if one is not None and one.role is ClaimRole.HOLDER]
        if call.ending is Ending.OK and len(held) == 2:
            self._work.troubles.append(f"the word for the held guest of {claim} was taken")

    async def _discard(self, host_id: str, instance_id: str, epoch: int) -> Call:
        word = audit_pb2.DiscardGuestRequest(host_id=host_id, instance_id=instance_id, epoch=epoch)
        call = await self.ask_for(word, host_id)
        if call.ending is not Ending.REFUSED:
            self._work.condemned.add((host_id, instance_id, epoch))
        return call
