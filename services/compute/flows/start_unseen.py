"""Starts guests after a boot of the machine though no view has come, where its operator said so.

Who says so bears the risk: an instance that was evacuated meanwhile runs twice until a view comes.
Never for shared storage. Source: MECHANICS C8.
"""

import asyncio
from collections import Counter
from dataclasses import replace

from services.compute.flows.ports import Driver
from services.compute.logic.guest import Guest
from services.domain.instance import Power
from services.runtime.log import logger

AT_ONCE_MAX = 4


async def start_unseen(driver: Driver, boot_id: str) -> None:
    """Starts each guest that ran in an earlier boot as it should; of an instance with more than one
    guest none, since nobody here knows which of them holds it. Raises what `list_guests` raises.
    """
    guests = await driver.list_guests()
    counts = Counter(guest.identity.instance_id for guest in guests)
    due = [g for g in guests if counts[g.identity.instance_id] == 1 and _is_due(g, boot_id)]
    steps = asyncio.Semaphore(AT_ONCE_MAX)

    async def start(guest: Guest) -> None:
        instance_id = guest.identity.instance_id
        async with steps:
            try:
                await driver.start_guest(guest.identity)
                await driver.write_notes(guest.identity, replace(guest.notes, ran_in=boot_id))
            except Exception as error:  # noqa: BLE001  # a view will say what else is to be done
                logger().warning("not started", instance=instance_id, error=repr(error))
            else:
                logger().info("started without a view", instance=instance_id)

    await asyncio.gather(*map(start, due))


def _is_due(guest: Guest, boot_id: str) -> bool:
    ran_in = guest.notes.ran_in
    return guest.prepared and guest.power is Power.OFF and ran_in not in ("", boot_id)
