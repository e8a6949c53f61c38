"""Keeps what hosts say that they have, and shows what of it nobody claims.

A guest without a claim is quarantined: it stands in no view, so its host leaves it exactly as it
is, whatever its epoch, until an admin says that it may go (accept_discard). Source: MECHANICS C7,
E3. Does not judge reports: a host is believed about its own guests only.
"""

import asyncio
from collections.abc import Mapping, Sequence

from services.conductor.flows.audit_ports import Asker, Inventories, Inventory
from services.conductor.logic.audit_facts import Heard, HostLook, UnknownGuest
from services.domain.errors import CloudError
from services.domain.kinds import HostState
from services.runtime.log import logger

GUESTS_MAX = 4096
PAGE_MAX = 1000
ASK_AGAIN_S = 1.0
POLL_S = 0.2
# Hosts whose bus is away say what they have every half minute by themselves.
ANSWER_S = 45.0
LIST_ANSWER_S = 5.0

After = tuple[str, str, int]


class Inventorist:
    """Takes reports, asks for fresh ones, which must come within `answer_s`, lists the unknown."""

    def __init__(self, store: Inventories, asker: Asker, answer_s: float = ANSWER_S) -> None:
        self._store = store
        self._asker = asker
        self._answer_s = answer_s

    async def take(self, inventory: Inventory) -> bool:
        """Keeps a report; whether it is of the live incarnation. Raises Unavailable."""
        return await self._store.inventory_keep(inventory)

    async def take_greeting(self, inventory: Inventory) -> None:
        """Keeps what came with a greeting; one that cannot be kept is made up for by the next."""
        try:
            await self._store.inventory_keep(inventory)
        except CloudError as error:
            logger().warning("inventory not kept", host=inventory.host_id, error=repr(error))

    async def unknown(
        self, host_id: str, after: After, limit: int
    ) -> tuple[list[UnknownGuest], After | None]:
        """A page of guests that nobody claims, and after which the next one begins, None where none
        follows. Their hosts are asked again before a guest is shown, if they can be heard: what was
        just erased would look as if it were unknown.
        """
        limit = max(1, min(limit, PAGE_MAX))
        found = await self._store.unknown_guests_read(host_id, after, limit)
        more = found[-1].key if len(found) == limit else None
        if not found:
            return [], None
        asked = dict.fromkeys((g.host_id for g in found), found[0].head_revision)
        await self._heard_after(asked, self._now() + min(LIST_ANSWER_S, self._answer_s))
        again = await self._store.unknown_guests_read(host_id, after, limit + PAGE_MAX)
        still = {guest.key: guest for guest in again}
        return [still[guest.key] for guest in found if guest.key in still], more

    async def looked_after(self, hosts: Mapping[str, int]) -> dict[str, HostLook]:
        """Looks at hosts whose guests were listed after the commit given for each; one that does
        not say so in time, or cannot be heard, is left out.
        """
        waiting, looks = dict(hosts), dict[str, HostLook]()
        give_up_at = self._now() + self._answer_s
        while heard := await self._heard_after(waiting, give_up_at):
            for look in await self._store.host_looks_read(heard):
                if look.is_listed_after(waiting[look.host_id]):
                    looks[look.host_id] = look
            # A host that has greeted since begins anew.
            waiting = {host_id: waiting[host_id] for host_id in heard if host_id not in looks}
        return looks

    async def _heard_after(self, hosts: Mapping[str, int], give_up_at: float) -> list[str]:
        """Asks hosts for their guests, and which of them have listed them after the commit given
        for each. Guests are read once, afterwards: this asks again and again.
        """
        waiting, heard, ask_at = dict(hosts), list[str](), 0.0
        while waiting and self._now() < give_up_at:
            told = await self._store.hosts_heard_read(list(waiting))
            known = {one.host_id: one for one in told if one.state is HostState.UP}
            ready = [h for h, one in known.items() if one.is_listed_after(waiting[h])]
            heard += ready
            waiting = {h: waiting[h] for h in known if h not in ready}
            if waiting and self._now() >= ask_at:
                ask_at = self._now() + ASK_AGAIN_S
                await self._ask([known[host_id] for host_id in waiting], waiting)
            if waiting:
                await asyncio.sleep(POLL_S)
        return heard

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _ask(self, hosts: Sequence[Heard], revisions: Mapping[str, int]) -> None:
        for host in hosts:
            try:
                await self._asker.ask_inventory(
                    host.host_id, host.incarnation, revisions[host.host_id]
                )
            except Exception as error:  # noqa: BLE001  # whatever the bus has, hosts tell by themselves
                logger().warning("inventory not asked for", host=host.host_id, error=repr(error))
