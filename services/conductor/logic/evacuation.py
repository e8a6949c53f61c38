"""Instances that leave a host which is known to be dead, and builds that move on from one.

The fence is the ground on which this stands: the claim leaves by the edition of the host row that
has it, so that a Hello in between makes the commit fail. The old claim leaves without discard,
since its owner's work is on that disk; one of a build with it. Source: MECHANICS C3, C5.
"""

from dataclasses import replace

from services.conductor.logic.operations import entered
from services.conductor.logic.rows import (
    ClaimAct,
    ClaimChange,
    ClaimRow,
    HostRow,
    InstanceRow,
    Item,
    OperationRow,
    Situation,
)
from services.domain.instance import Event, Illegal, Power, Standing, after
from services.domain.kinds import ClaimRole, HostState
from services.domain.operation import Phase
from services.domain.resources import NOTHING


def evacuated(
    situation: Situation, host: HostRow | None, operation: OperationRow
) -> Item | Illegal:
    """It is to be built anew elsewhere; `host` is that of its holder. Refused unless that is DOWN
    and fenced, or it lost its host by an evacuation that failed.
    """
    instance = situation.instance
    following = after(instance.standing, Event.EVACUATE_ASKED)
    if isinstance(following, Illegal):
        return following
    holder = situation.holder
    if holder is None:
        return _once_more(situation, following, operation)
    if host is None or host.state is not HostState.DOWN:
        return Illegal("HOST_NOT_DOWN", f"host {holder.host_id} is not DOWN")
    if not host.fenced or host.fence is None:
        return Illegal(
            "HOST_NOT_FENCED",
            f"host {host.id} is DOWN, but nobody says that its guests run no more: fence it first",
        )
    leaving = ClaimChange(
        ClaimAct.LEAVE, instance.id, host.id, NOTHING,
        epoch=holder.epoch, host_edition=host.seen_edition,
    )  # fmt: skip
    return Item(
        instance=unplaced(instance, following, host.id),
        wants=True,
        operations=(replace(operation, progress="its host is dead"),),
        claims=(leaving,),
    )


def moved_on(situation: Situation, now_s: float) -> Item | None:
    """A build whose host is fenced is placed again. The claim that held it is read with its host; a
    Hello in between takes away the fence and not the claim, whose guest is erased in any case.
    """
    holder, operation = situation.holder, situation.operation
    following = after(situation.instance.standing, Event.BUILD_LOST)
    if isinstance(following, Illegal) or holder is None or operation is None:
        return None
    again = replace(entered(operation, Phase.PLACING, now_s), progress="its host is dead")
    return Item(
        instance=unplaced(situation.instance, following, holder.host_id),
        wants=True,
        operations=(again,),
        claims=(_begun(holder),),
    )


def unplaced(instance: InstanceRow, standing: Standing, host_id: str) -> InstanceRow:
    """The instance without a host, waiting for another one than that."""
    excluded = dict.fromkeys((*instance.excluded_host_ids, host_id) if host_id else ())
    return replace(
        instance,
        standing=standing,
        host_id="",
        epoch=0,
        attempt=instance.attempt + 1,
        excluded_host_ids=tuple(excluded),
        power=Power.PENDING,
    )


def _once_more(
    situation: Situation, following: Standing, operation: OperationRow
) -> Item | Illegal:
    kept = [c for c in situation.claims if c.role is ClaimRole.LEAVING and not c.discard]
    if not kept:
        return Illegal("HOST_NOT_DOWN", "no host holds it: there is nothing to evacuate it from")
    for claim in kept:
        if claim.host_state is not HostState.DOWN:
            return Illegal("HOST_NOT_DOWN", f"host {claim.host_id}, which has its disk, is back")
        if not claim.host_fenced:
            return Illegal("HOST_NOT_FENCED", f"host {claim.host_id} has its disk: fence it first")
    instance = replace(situation.instance, excluded_host_ids=tuple(c.host_id for c in kept))
    return Item(
        instance=unplaced(instance, following, kept[-1].host_id),
        wants=True,
        operations=(operation,),
    )


def _begun(holder: ClaimRow) -> ClaimChange:
    return ClaimChange(
        ClaimAct.LEAVE,
        holder.instance_id,
        holder.host_id,
        NOTHING,
        epoch=holder.epoch,
        discard=True,
    )
