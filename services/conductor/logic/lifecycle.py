"""What becomes of an instance: a situation and a happening in, the item to commit out.

Pure: the table of `domain.instance` says what is legal, this module what is written with it. A
happening that changes nothing gives None. Does not own when something is looked at (steps) nor who
asks (flows).
"""

from dataclasses import dataclass, replace

from services.conductor.logic.rows import (
    ClaimAct,
    ClaimChange,
    InstanceRow,
    Item,
    OperationFault,
    OperationRow,
    Situation,
)
from services.domain.instance import Event, Illegal, Power, State, after
from services.domain.kinds import ClaimRole
from services.domain.operation import OperationAction, OperationState, Phase
from services.domain.resources import NOTHING

BUILD_TRIES_MAX = 3
FAILED_PRECONDITION = 9
RESOURCE_EXHAUSTED = 8
INTERNAL = 13
CANCELLED = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """One observation of a host, with its number and origin. `failure` is (reason, message) or
    None.
    """

    instance_id: str
    epoch: int
    host_id: str
    incarnation: int
    sequence: int
    applied_generation: int
    power: Power
    absent: bool
    failure: tuple[str, str] | None = None
    progress: str = ""


def claimed(situation: Situation, host_id: str, now_s: float) -> Item | None:
    """A host was chosen: the claim is added, the instance builds. None if it waits for no host any
    more.
    """
    following = after(situation.instance.standing, Event.CLAIMED)
    if isinstance(following, Illegal) or situation.operation is None or situation.holder:
        return None
    return Item(
        instance=replace(situation.instance, standing=following, host_id=host_id),
        operations=(_enter(situation.operation, Phase.BUILDING, now_s),),
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
    return _failed(situation, fault, (), now_s)


def observed(situation: Situation, seen: Seen, now_s: float) -> Item:
    """A host saw the guest of a live claim. Always an item, since the observation's number is
    recorded.
    """
    numbered = _numbered(seen)
    claim = next((c for c in situation.claims if c.epoch == seen.epoch), None)
    if claim is None or claim.role is not ClaimRole.HOLDER:
        return Item(claims=(numbered, _release(seen)) if seen.absent else (numbered,))
    item: Item | None
    if seen.absent:
        item = _absent(situation, seen, now_s)
    elif situation.instance.standing.state is State.BUILDING:
        item = _building(situation, seen, now_s)
    else:
        item = _powered(situation.instance, seen.power)
    if item is None:
        return Item(claims=(numbered,))
    return replace(item, claims=(numbered, *item.claims))


def delete_asked(situation: Situation, operation: OperationRow, now_s: float) -> Item | Illegal:
    """The owner wants it gone: its unfinished operation is cancelled, its wish becomes absence.

    Without a claim there is nothing to remove, and it is DELETED at once.
    """
    following = after(situation.instance.standing, Event.DELETE_ASKED)
    if isinstance(following, Illegal):
        return following
    instance = replace(
        situation.instance,
        standing=following,
        generation=situation.instance.generation + 1,
        wanted=replace(situation.instance.wanted, present=False, run=False),
    )
    operations: tuple[OperationRow, ...] = (operation,)
    if situation.operation is not None:
        cause = OperationFault(
            CANCELLED,
            "SUPERSEDED_BY_DELETE",
            f"the instance is being deleted by operation {operation.id}",
            {"operation_id": operation.id},
        )
        operations = (_end(situation.operation, OperationState.CANCELLED, now_s, cause), operation)
    if situation.holder is None:
        gone = after(following, Event.GUEST_GONE)
        assert not isinstance(gone, Illegal)
        instance = replace(instance, standing=gone)
        operations = (*operations[:-1], _end(operation, OperationState.DONE, now_s))
    return Item(instance=instance, wants=True, operations=operations)


def deleted_on_lost_host(situation: Situation, now_s: float) -> Item | None:
    """A delete whose host is DOWN: DELETED at once, the claim is LEAVING until its host confirms.
    MECHANICS C6.
    """
    holder = situation.holder
    following = after(situation.instance.standing, Event.GUEST_GONE)
    if isinstance(following, Illegal) or holder is None or situation.operation is None:
        return None
    leaving = ClaimChange(
        ClaimAct.LEAVE, situation.instance.id, holder.host_id, NOTHING, epoch=holder.epoch
    )
    return Item(
        instance=replace(situation.instance, standing=following, host_id="", epoch=0),
        operations=(_end(situation.operation, OperationState.DONE, now_s),),
        claims=(leaving,),
    )


@dataclass(frozen=True, slots=True)
class Author:
    """Who asked for an operation, and with which request id."""

    subject: str
    request_id: str


def new_operation(
    id: str, row: InstanceRow, *, action: OperationAction, author: Author, now_s: float
) -> OperationRow:
    """The operation of an instance's mutation, in its first phase."""
    first = Phase.PLACING if action is OperationAction.CREATE_INSTANCE else Phase.REMOVING
    return OperationRow(
        id=id,
        project_id=row.project_id,
        resource_id=row.id,
        action=action,
        state=OperationState.RUNNING,
        phases=((first, now_s),),
        actor=author.subject,
        request_id=author.request_id,
        created_at_s=now_s,
    )


def _absent(situation: Situation, seen: Seen, now_s: float) -> Item | None:
    instance = situation.instance
    release = _release(seen)
    if not instance.wanted.present:
        following = after(instance.standing, Event.GUEST_GONE)
        if isinstance(following, Illegal) or situation.operation is None:
            return None
        return Item(
            instance=replace(instance, standing=following, host_id="", epoch=0, power=Power.OFF),
            operations=(_end(situation.operation, OperationState.DONE, now_s),),
            claims=(release,),
        )
    if situation.operation is None:
        return _guest_lost(instance, seen, release)
    return _build_lost(situation, situation.operation, seen, now_s=now_s)


def _guest_lost(instance: InstanceRow, seen: Seen, release: ClaimChange) -> Item | None:
    """A guest that had lived is gone for ever: ERROR, and its resources return. MECHANICS C6."""
    following = after(instance.standing, Event.GUEST_LOST)
    if isinstance(following, Illegal):
        return None
    reason, message = seen.failure or ("GUEST_LOST", "its host has nothing of it any more")
    return Item(
        instance=replace(
            instance,
            standing=following,
            fault=f"{reason}: {message}",
            host_id="",
            epoch=0,
            power=Power.PENDING,
        ),
        claims=(release,),
    )


def _build_lost(
    situation: Situation, operation: OperationRow, seen: Seen, *, now_s: float
) -> Item | None:
    instance, release = situation.instance, _release(seen)
    reason, message = seen.failure or ("GUEST_LOST", "the host lost the guest while building it")
    tries = operation.tries + 1
    if tries >= BUILD_TRIES_MAX:
        fault = OperationFault(
            INTERNAL,
            "BUILD_FAILED",
            f"{tries} hosts could not build it; the last one said {reason}: {message}",
            {"cause": reason, "tries": str(tries)},
        )
        return _failed(
            replace(situation, operation=replace(operation, tries=tries)), fault, (release,), now_s
        )
    following = after(instance.standing, Event.BUILD_LOST)
    if isinstance(following, Illegal):
        return None
    retried = replace(
        _enter(operation, Phase.PLACING, now_s), tries=tries, progress=f"{reason}: {message}"[:200]
    )
    return Item(
        instance=replace(
            instance,
            standing=following,
            host_id="",
            epoch=0,
            attempt=instance.attempt + 1,
            excluded_host_ids=(*instance.excluded_host_ids, seen.host_id),
            power=Power.PENDING,
        ),
        operations=(retried,),
        claims=(release,),
    )


def _building(situation: Situation, seen: Seen, now_s: float) -> Item | None:
    instance, operation = situation.instance, situation.operation
    if operation is None or operation.action is not OperationAction.CREATE_INSTANCE:
        return None
    if seen.applied_generation >= instance.generation:
        following = after(instance.standing, Event.STARTED)
        if isinstance(following, Illegal):
            return None
        started = replace(instance, standing=following, power=Power.RUNNING)
        ended = (_end(operation, OperationState.DONE, now_s),)
        # It may have gone off again since: what is seen now follows at once.
        since = _powered(started, seen.power)
        return replace(since or Item(instance=started), operations=ended)
    if seen.progress and seen.progress != operation.progress:
        return Item(operations=(replace(operation, progress=seen.progress[:200]),))
    return None


def _powered(instance: InstanceRow, power: Power) -> Item | None:
    """A guest that went off or on by itself: state and wish follow. MECHANICS B1.

    PENDING says nothing: the host has not looked.
    """
    if power is instance.power or power is Power.PENDING:
        return None
    changed = replace(instance, power=power)
    event = Event.GUEST_RAN if power is Power.RUNNING else Event.GUEST_STOPPED
    following = after(instance.standing, event)
    if isinstance(following, Illegal):
        return Item(instance=changed)
    runs = power is Power.RUNNING
    return Item(
        instance=replace(
            changed,
            standing=following,
            generation=instance.generation + 1,
            wanted=replace(instance.wanted, run=runs),
        ),
        wants=True,
    )


def _failed(
    situation: Situation, fault: OperationFault, claims: tuple[ClaimChange, ...], now_s: float
) -> Item | None:
    following = after(situation.instance.standing, Event.FAILED)
    if isinstance(following, Illegal) or situation.operation is None:
        return None
    return Item(
        instance=replace(
            situation.instance,
            standing=following,
            fault=f"{fault.reason}: {fault.message}",
            host_id="",
            epoch=0,
            power=Power.PENDING,
        ),
        operations=(_end(situation.operation, OperationState.FAILED, now_s, fault),),
        claims=claims,
    )


def _enter(operation: OperationRow, phase: Phase, now_s: float) -> OperationRow:
    return replace(operation, phases=(*operation.phases, (phase, now_s)), progress="")


def _end(
    operation: OperationRow,
    state: OperationState,
    now_s: float,
    fault: OperationFault | None = None,
) -> OperationRow:
    ended = _enter(operation, Phase.ENDED, now_s)
    return replace(ended, state=state, ended_at_s=now_s, fault=fault)


def _numbered(seen: Seen) -> ClaimChange:
    return ClaimChange(
        ClaimAct.OBSERVE,
        seen.instance_id,
        seen.host_id,
        NOTHING,
        epoch=seen.epoch,
        incarnation=seen.incarnation,
        sequence=seen.sequence,
    )


def _release(seen: Seen) -> ClaimChange:
    return ClaimChange(ClaimAct.REMOVE, seen.instance_id, seen.host_id, NOTHING, epoch=seen.epoch)


def _refusal_message(hosts: int, counts: dict[str, int]) -> str:
    if hosts == 0:
        return "there is no host yet"
    told = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return f"none of {hosts} hosts can take it; rejected by: {told or 'nothing that is known'}"
