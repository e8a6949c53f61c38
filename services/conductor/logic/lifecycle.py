"""What becomes of an instance from its acceptance to its end: a situation and a happening in, the
item to commit out.

Pure: the table of `domain.instance` says what is legal, this module what is written with it. A
happening that changes nothing gives None. Does not own how its guest is made (building), its power
switch (power), when something is looked at (steps) nor who asks (flows).
"""

from collections.abc import Sequence
from dataclasses import replace

from services.conductor.logic.building import build_lost, built, failed, is_being_built
from services.conductor.logic.items import ClaimAct, ClaimChange, Item
from services.conductor.logic.observation import Seen, numbered, released, unclaimed
from services.conductor.logic.operations import (
    CANCELLED,
    INTERNAL,
    RESOURCE_EXHAUSTED,
    ended,
    entered,
)
from services.conductor.logic.power import power_seen
from services.conductor.logic.rows import (
    ClaimRow,
    InstanceRow,
    OperationFault,
    OperationRow,
    Situation,
)
from services.domain.instance import Event, Illegal, Power, Standing, after
from services.domain.kinds import ClaimRole
from services.domain.operation import OperationState, Phase, is_cancellable
from services.domain.resources import NOTHING


def claimed(situation: Situation, host_id: str, now_s: float) -> Item | None:
    """A host was chosen: the claim is added, the instance builds. None if it waits for no host any
    more.
    """
    following = after(situation.instance.standing, Event.CLAIMED)
    if isinstance(following, Illegal) or situation.operation is None or situation.holder:
        return None
    return Item(
        instance=replace(situation.instance, standing=following, host_id=host_id),
        operations=(entered(situation.operation, Phase.BUILDING, now_s),),
        claims=(
            ClaimChange(ClaimAct.ADD, situation.instance.id, host_id, situation.instance.resources),
        ),
    )


def refused(situation: Situation, hosts: int, counts: dict[str, int], now_s: float) -> Item | None:
    """No host can take it: the instance is in ERROR, the operation FAILED with one count per
    filter.

    None if it has a holder: the refusal is too late.
    """
    if situation.holder is not None:
        return None
    message = _refusal_message(hosts, counts)
    metadata = {"hosts": str(hosts)}
    metadata |= {f"rejected_by_{name}": str(count) for name, count in counts.items()}
    fault = OperationFault(RESOURCE_EXHAUSTED, "NO_VALID_HOST", message, metadata)
    return failed(situation, fault, (), now_s)


def observed(situation: Situation, seen: Seen, now_s: float) -> Item:
    """A host saw the guest of a live claim. Always an item, since the observation's number is
    recorded.
    """
    number = numbered(seen)
    claim = next((c for c in situation.claims if c.epoch == seen.epoch), None)
    if claim is None or claim.role is not ClaimRole.HOLDER:
        return unclaimed(seen)
    item: Item | None
    if seen.absent:
        item = _absent(situation, seen, now_s)
    elif is_being_built(situation.instance.standing):
        item = built(situation, seen, now_s)
    else:
        item = power_seen(situation, seen, now_s)
    if item is None:
        return Item(claims=(number,))
    return replace(item, claims=(number, *item.claims))


def delete_asked(situation: Situation, operation: OperationRow, now_s: float) -> Item | None:
    """The owner wants it gone: its unfinished operation is cancelled, its wish becomes absence.

    Without a claim there is nothing to remove, and it is DELETED at once. None if it is on its way
    already, or gone.
    """
    following = after(situation.instance.standing, Event.DELETE_ASKED)
    if isinstance(following, Illegal) or following == situation.instance.standing:
        return None
    instance = _unwanted(situation.instance, following)
    operations: tuple[OperationRow, ...] = (operation,)
    if situation.operation is not None:
        cause = OperationFault(
            CANCELLED,
            "SUPERSEDED_BY_DELETE",
            f"the instance is being deleted by operation {operation.id}",
            {"operation_id": operation.id},
        )
        operations = (ended(situation.operation, OperationState.CANCELLED, now_s, cause), operation)
    if situation.holder is None:
        gone = after(following, Event.GUEST_GONE)
        assert not isinstance(gone, Illegal)
        instance = replace(instance, standing=gone)
        operations = (*operations[:-1], ended(operation, OperationState.DONE, now_s))
    return Item(
        instance=instance, wants=True, operations=operations, claims=discards(situation.claims)
    )


def cancel_asked(situation: Situation, now_s: float) -> Item | None:
    """Its unfinished operation is called off; None where something of it is done on a host."""
    operation = situation.operation
    if operation is None or not is_cancellable(operation.action, operation.phase):
        return None
    following = after(situation.instance.standing, Event.CANCELLED)
    if isinstance(following, Illegal) or situation.holder is not None:
        return None
    cause = OperationFault(CANCELLED, "CANCELLED_BY_CALLER", "the operation was called off")
    return Item(
        instance=_unwanted(situation.instance, following),
        wants=True,
        operations=(ended(operation, OperationState.CANCELLED, now_s, cause),),
        claims=discards(situation.claims),
    )


def renamed(
    situation: Situation, name: str, labels: dict[str, str], operation: OperationRow
) -> Item | Illegal:
    """Another name, other labels. What is wanted of a host stays as it is."""
    following = after(situation.instance.standing, Event.UPDATE_ASKED)
    if isinstance(following, Illegal):
        return following
    changed = replace(situation.instance, standing=following, name=name, labels=labels)
    return Item(instance=changed, operations=(operation,))


def deleted_on_lost_host(situation: Situation, now_s: float) -> Item | None:
    """A delete whose host is DOWN: DELETED at once, the claim is LEAVING until its host confirms.
    MECHANICS C6.
    """
    holder = situation.holder
    following = after(situation.instance.standing, Event.GUEST_GONE)
    if isinstance(following, Illegal) or holder is None or situation.operation is None:
        return None
    leaving = ClaimChange(
        ClaimAct.LEAVE,
        situation.instance.id,
        holder.host_id,
        NOTHING,
        epoch=holder.epoch,
        discard=True,
    )
    return Item(
        instance=replace(situation.instance, standing=following, host_id="", epoch=0),
        operations=(ended(situation.operation, OperationState.DONE, now_s),),
        claims=(leaving,),
    )


def discards(claims: Sequence[ClaimRow]) -> tuple[ClaimChange, ...]:
    """The owner's word, on record, that whatever there is of it may be erased. MECHANICS C7."""
    return tuple(
        ClaimChange(ClaimAct.DISCARD, claim.instance_id, claim.host_id, NOTHING, epoch=claim.epoch)
        for claim in claims
        if not claim.discard
    )


def _unwanted(instance: InstanceRow, standing: Standing) -> InstanceRow:
    return replace(
        instance,
        standing=standing,
        generation=instance.generation + 1,
        wanted=replace(instance.wanted, present=False, power=Power.OFF, grace_s=0),
    )


def _absent(situation: Situation, seen: Seen, now_s: float) -> Item | None:
    instance, operation = situation.instance, situation.operation
    release = released(seen)
    if not instance.wanted.present:
        following = after(instance.standing, Event.GUEST_GONE)
        if isinstance(following, Illegal) or operation is None:
            return None
        return Item(
            instance=replace(instance, standing=following, host_id="", epoch=0, power=Power.OFF),
            operations=(ended(operation, OperationState.DONE, now_s),),
            claims=(release,),
        )
    if is_being_built(instance.standing) and operation is not None:
        return build_lost(situation, operation, seen, now_s=now_s)
    return _guest_lost(situation, seen, now_s)


def _guest_lost(situation: Situation, seen: Seen, now_s: float) -> Item | None:
    """A guest that had lived is gone for ever: ERROR, and its resources return. MECHANICS C6."""
    instance, operation = situation.instance, situation.operation
    following = after(instance.standing, Event.GUEST_LOST)
    if isinstance(following, Illegal):
        return None
    reason, message = seen.failure or ("GUEST_LOST", "its host has nothing of it any more")
    fault = OperationFault(INTERNAL, reason, message)
    return Item(
        instance=replace(
            instance,
            standing=following,
            fault=f"{reason}: {message}",
            host_id="",
            epoch=0,
            power=Power.PENDING,
        ),
        operations=(ended(operation, OperationState.FAILED, now_s, fault),) if operation else (),
        claims=(released(seen),),
    )


def _refusal_message(hosts: int, counts: dict[str, int]) -> str:
    if hosts == 0:
        return "there is no host yet"
    told = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return f"none of {hosts} hosts can take it; rejected by: {told or 'nothing that is known'}"
