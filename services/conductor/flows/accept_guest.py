"""Accepts the word that a guest may go which nobody claims, or which an evacuation left: it is, or
becomes, a claim that leaves, and its host erases it. Source: MECHANICS C7.
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
from services.domain.kinds import ClaimRole, ResourceKind
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
            fact = await self._found(guest)
            about = About(asked.caller.project_id, guest.host_id)
            operation = self._acceptance.done(asked, OperationAction.DISCARD_GUEST, about)
            let_go = ClaimChange(
                _act_for(fact), guest.instance_id, guest.host_id, NOTHING, epoch=guest.epoch
            )
            return Item(
                request=asked.key(guest.host_id, operation.id),
                operations=(operation,),
                claims=(let_go,),
            )

        return await self._acceptance.accept(asked, ResourceKind.HOST, decide)

    async def _found(self, guest: GuestOnHost) -> GuestFact:
        known = [guest.host_id] if is_host_id(guest.host_id) else []
        looks = await self._inventories.host_looks_read(known)
        if not looks:
            raise missing(ResourceKind.HOST, guest.host_id)
        found = next((g for g in looks[0].guests if _is(g, guest)), None)
        if found is None:
            raise NotFound(
                "GUEST_NOT_REPORTED",
                f"host {guest.host_id} has told of no guest {guest.instance_id} of epoch "
                f"{guest.epoch}",
                metadata={"host_id": guest.host_id, "instance_id": guest.instance_id},
            )
        return found


def _act_for(fact: GuestFact) -> ClaimAct:
    """One that nobody claims is condemned; of what an evacuation left the disk may go too, once its
    instance is made on another. What was read holds as if the word had been given then: nothing
    unmakes that disk but an evacuation from its own host, asked for later.

    Raises WrongState (GUEST_CLAIMED).
    """
    if fact.role is None:
        return ClaimAct.CONDEMN
    if fact.role is ClaimRole.LEAVING and not fact.discard and fact.has_newer_disk:
        return ClaimAct.DISCARD
    why = "a claim stands for this guest; delete its instance instead"
    if fact.role is ClaimRole.LEAVING:
        why = "it is the one disk of its instance; evacuate that and wait until it is, or delete it"
        why = "this guest is on its way out already" if fact.discard else why
    raise WrongState("GUEST_CLAIMED", why, metadata={"instance_id": fact.instance_id})


def _is(fact: GuestFact, guest: GuestOnHost) -> bool:
    return (fact.instance_id, fact.epoch) == (guest.instance_id, guest.epoch)
