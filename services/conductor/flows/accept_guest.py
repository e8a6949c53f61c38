"""Accepts the word that a guest which nobody claims may go: it becomes a claim that leaves, and its
host erases it. Source: MECHANICS C7.
"""

from dataclasses import dataclass

from services.conductor.flows.accept import Acceptance, missing
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.flows.audit_ports import Inventories
from services.conductor.logic.audit_facts import GuestFact
from services.conductor.logic.items import ClaimAct, ClaimChange, Item
from services.conductor.logic.operations import About
from services.domain.errors import NotFound, WrongState
from services.domain.ids import is_host_id
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction
from services.domain.resources import NOTHING


@dataclass(frozen=True, slots=True)
class GuestOnHost:
    """Names a guest by what stands in it, and where it is."""

    host_id: str
    instance_id: str
    epoch: int


class GuestAcceptor:
    """Turns wishes about unknown guests into commits."""

    def __init__(self, acceptance: Acceptance, inventories: Inventories) -> None:
        self._acceptance = acceptance
        self._inventories = inventories

    async def discard(self, asked: Asked, guest: GuestOnHost) -> Accepted:
        """Records that it may go. Raises NotFound (HOST_NOT_FOUND, GUEST_NOT_REPORTED), WrongState
        (GUEST_CLAIMED).
        """

        async def decide() -> Item:
            await self._require_unknown(guest)
            about = About(asked.caller.project_id, guest.host_id)
            operation = self._acceptance.done(asked, OperationAction.DISCARD_GUEST, about)
            condemned = ClaimChange(
                ClaimAct.CONDEMN,
                guest.instance_id,
                guest.host_id,
                NOTHING,
                epoch=guest.epoch,
            )
            return Item(
                request=asked.key(guest.host_id, operation.id),
                operations=(operation,),
                claims=(condemned,),
            )

        return await self._acceptance.accept(asked, ResourceKind.HOST, decide)

    async def _require_unknown(self, guest: GuestOnHost) -> None:
        known = [guest.host_id] if is_host_id(guest.host_id) else []
        looks = await self._inventories.host_looks_read(known)
        if not looks:
            raise missing(ResourceKind.HOST, guest.host_id)
        found = next((g for g in looks[0].guests if _is(g, guest)), None)
        if found is not None and found.role is not None:
            raise WrongState(
                "GUEST_CLAIMED",
                "a claim stands for this guest; delete its instance instead",
                metadata={"instance_id": guest.instance_id},
            )
        if found is None:
            raise NotFound(
                "GUEST_NOT_REPORTED",
                f"host {guest.host_id} has told of no guest {guest.instance_id} of epoch "
                f"{guest.epoch}",
                metadata={"host_id": guest.host_id, "instance_id": guest.instance_id},
            )


def _is(fact: GuestFact, guest: GuestOnHost) -> bool:
    return (fact.instance_id, fact.epoch) == (guest.instance_id, guest.epoch)
