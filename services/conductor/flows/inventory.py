"""Keeps what hosts say that they have, and shows what of it nobody claims.

A guest without a claim is quarantined: it stands in no view, so its host leaves it exactly as it
is, whatever its epoch, until an admin says that it may go (accept_discard). Source: MECHANICS C7,
E3. Does not judge reports: a host is believed about its own guests only.
"""

import asyncio
from collections.abc import Mapping, Sequence

from services.conductor.flows.audit_ports import Asker, Inventories, Inventory
from services.conductor.logic.audit_facts import HostLook, UnknownGuest
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
        await self.looked_after(asked, min(LIST_ANSWER_S, self._answer_s))
        again = await self._store.unknown_guests_read(host_id, after, limit + PAGE_MAX)
        still = {guest.key: guest for guest in again}
        return [still[guest.key] for guest in found if guest.key in still], more

    async def looked_after(
        self, hosts: Mapping[str, int], answer_s: float = 0.0
    ) -> dict[str, HostLook]:
        """Looks at hosts whose guests were listed after the commit given for each; one that does
        not say so in time, or cannot be heard, is left out.
        """
        waiting, looks = dict(hosts), dict[str, HostLook]()
        clock = asyncio.get_running_loop().time
        give_up_at, ask_at = clock() + (answer_s or self._answer_s), 0.0
        while waiting and clock() < give_up_at:
            heard = await self._store.host_looks_read(list(waiting))
            known = {look.host_id: look for look in heard if look.state is HostState.UP}
            waiting = {host_id: waiting[host_id] for host_id in known}
            for host_id in [h for h, look in known.items() if look.is_listed_after(waiting[h])]:
                looks[host_id] = known[host_id]
                del waiting[host_id]
            if waiting and clock() >= ask_at:
                ask_at = clock() + ASK_AGAIN_S
                await self._ask([known[host_id] for host_id in waiting], waiting)
            if waiting:
                await asyncio.sleep(POLL_S)
        return looks

    async def _ask(self, looks: Sequence[HostLook], revisions: Mapping[str, int]) -> None:
        for look in looks:
            try:
                await self._asker.ask_inventory(
                    look.host_id, look.incarnation, revisions[look.host_id]
                )
            except Exception as error:  # noqa: BLE001  # whatever the bus has, hosts tell by themselves
                logger().warning("inventory not asked for", host=look.host_id, error=repr(error))
