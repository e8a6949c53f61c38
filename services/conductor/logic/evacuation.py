"""Instances that leave a host which is known to be dead, and builds that move on from one.

The fence is the ground on which this stands: the claim leaves by the edition of the host row that
has it, so that a Hello in between makes the commit fail. The old claim leaves without discard,
since its owner's work is on that disk; one of a build with it. Source: MECHANICS C3, C5.
"""

from collections.abc import Mapping
from dataclasses import replace

from services.conductor.logic.items import ClaimAct, ClaimChange, Item
from services.conductor.logic.operations import entered
from services.conductor.logic.rows import ClaimRow, HostRow, InstanceRow, OperationRow, Situation
from services.domain.instance import Event, Illegal, Power, Standing, after
from services.domain.kinds import ClaimRole, HostState
from services.domain.operation import Phase
from services.domain.resources import NOTHING


def evacuated(
    situation: Situation, hosts: Mapping[str, HostRow], operation: OperationRow
) -> Item | Illegal:
    """It is to be built anew elsewhere. Refused unless those of the `hosts` that it leaves are DOWN
    and fenced: its holder's, or, where an evacuation failed before, those that have its disk.
    """
    following = after(situation.instance.standing, Event.EVACUATE_ASKED)
    if isinstance(following, Illegal):
        return following
    left = _left(situation)
    if not left:
        return Illegal("NOTHING_TO_EVACUATE", "no host has anything of it")
    for claim in left:
        alive = _alive(claim.host_id, hosts.get(claim.host_id))
        if alive is not None:
            return alive
    excluded = dict.fromkeys(claim.host_id for claim in situation.claims)
    wanted = situation.instance.wanted
    # Where its memory was is out of reach: it comes up anew, or stays off.
    power = Power.OFF if wanted.power is Power.OFF else Power.RUNNING
    instance = replace(
        situation.instance,
        excluded_host_ids=tuple(excluded),
        wanted=replace(wanted, power=power),
    )
    return Item(
        instance=unplaced(instance, following, left[-1].host_id),
        wants=True,
        operations=(replace(operation, progress="its host is dead"),),
        claims=tuple(_leaving(claim, hosts[claim.host_id].seen_edition) for claim in left),
    )


def _left(situation: Situation) -> list[ClaimRow]:
    """The claims on which a guest of it may run still."""
    if situation.holder is not None:
        return [situation.holder]
    return [c for c in situation.claims if c.role is ClaimRole.LEAVING and not c.discard]


def _alive(host_id: str, host: HostRow | None) -> Illegal | None:
    """Why it may not be taken for dead."""
    if host is None or host.state is not HostState.DOWN:
        return Illegal("HOST_NOT_DOWN", f"host {host_id} is not DOWN")
    if not host.fenced or host.fence is None:
        return Illegal(
            "HOST_NOT_FENCED",
            f"host {host_id} is DOWN, but nobody says that its guests run no more: fence it first",
        )
    return None


def _leaving(claim: ClaimRow, host_edition: int) -> ClaimChange:
    return ClaimChange(
        ClaimAct.LEAVE, claim.instance_id, claim.host_id, NOTHING,
        epoch=claim.epoch, host_edition=host_edition,
    )  # fmt: skip


def moved_on(situation: Situation, now_s: float) -> Item | None:
    """A build whose host is fenced is placed again. The claim leaves by the edition of its host
    that was read with it: after a Hello in between the host may make the guest, and the build
    stays.
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


def _begun(holder: ClaimRow) -> ClaimChange:
    return ClaimChange(
        ClaimAct.LEAVE,
        holder.instance_id,
        holder.host_id,
        NOTHING,
        epoch=holder.epoch,
        discard=True,
        host_edition=holder.host_edition,
    )
