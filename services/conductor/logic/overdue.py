"""What becomes of an operation whose deadline has passed: an end that says so, and the rows that
say what is still to be undone.

Silence of a host confirms nothing: its claim is LEAVING until it speaks. Does not own when a
deadline passes (step_table, the store). Source: MECHANICS C3, C6.
"""

from dataclasses import replace

from services.conductor.logic.items import ClaimAct, ClaimChange, Item
from services.conductor.logic.lifecycle import deleted_on_lost_host
from services.conductor.logic.operations import DEADLINE_EXCEEDED, ended
from services.conductor.logic.power import left_as_seen
from services.conductor.logic.rows import ClaimRow, OperationFault, OperationRow, Situation
from services.domain.instance import Event, Illegal, Power, after
from services.domain.operation import OperationAction, OperationState, Phase
from services.domain.resources import NOTHING

_WORDS = {
    Phase.PLACING: "no host was found in time",
    Phase.BUILDING: "the host did not build it in time",
    Phase.STARTING: "the host did not start it in time",
    Phase.STOPPING: "the host did not stop it in time",
    Phase.REBOOTING: "the host did not reboot it in time",
    Phase.PAUSING: "the host did not freeze it in time",
    Phase.UNPAUSING: "the host did not let it go on in time",
    Phase.SUSPENDING: "the host did not write its memory to disk in time",
    Phase.RESUMING: "the host did not read its memory back in time",
}


def given_up(situation: Situation, now_s: float) -> Item | None:
    """The end of an operation that is overdue, with its undo; None if there is nothing to end."""
    operation = situation.operation
    if operation is None or not situation.overdue:
        return None
    # Rows that no flow of stead leaves so are not mended here; the operation ends all the same.
    alone = Item(operations=(ended_overdue(operation, now_s),))
    return _undone(situation, operation, now_s) or alone


def _undone(situation: Situation, operation: OperationRow, now_s: float) -> Item | None:
    if operation.action is OperationAction.DELETE_INSTANCE:
        return deleted_on_lost_host(situation, now_s)
    if operation.phase in (Phase.PLACING, Phase.BUILDING):
        return _build_given_up(situation, operation, now_s)
    return left_as_seen(situation, ended_overdue(operation, now_s))


def ended_overdue(operation: OperationRow, now_s: float) -> OperationRow:
    """The operation FAILED, with the phase that took too long and what its last try met."""
    message = _WORDS.get(operation.phase, "it took too long")
    metadata = {"phase": operation.phase.name, "tries": str(operation.tries)}
    if operation.last_fault is not None:
        message += f"; the last try met {operation.last_fault.reason}"
        metadata["cause"] = operation.last_fault.reason
    fault = OperationFault(DEADLINE_EXCEEDED, "OPERATION_OVERDUE", message, metadata)
    return ended(operation, OperationState.FAILED, now_s, fault)


def left_to_erase(claim: ClaimRow) -> ClaimChange:
    """The claim's guest is to be erased, whenever its host hears of it: nothing of an owner is in
    it.
    """
    return ClaimChange(
        ClaimAct.LEAVE, claim.instance_id, claim.host_id, NOTHING, epoch=claim.epoch, discard=True
    )


def _build_given_up(situation: Situation, operation: OperationRow, now_s: float) -> Item | None:
    following = after(situation.instance.standing, Event.FAILED)
    if isinstance(following, Illegal):
        return None
    over = ended_overdue(operation, now_s)
    assert over.fault is not None
    holder = situation.holder
    failed = replace(
        situation.instance,
        standing=following,
        fault=f"{over.fault.reason}: {over.fault.message}",
        host_id="",
        epoch=0,
        power=Power.PENDING,
    )
    claims = (left_to_erase(holder),) if holder is not None else ()
    return Item(instance=failed, operations=(over,), claims=claims)
