"""What becomes of an instance while its guest is being made: by its host's words, item by item.

Pure. Owns builds of creates and evacuations, how often another host is tried, and how they fail.
Does not own what stands already (power) nor how a build begins (lifecycle).
"""

from dataclasses import replace

from services.conductor.logic.items import ClaimChange, Item
from services.conductor.logic.observation import Seen, released
from services.conductor.logic.operations import INTERNAL, ended, entered, progressed
from services.conductor.logic.power import drifted, lost
from services.conductor.logic.rows import OperationFault, OperationRow, Situation
from services.domain.instance import SEEN, Event, Illegal, Power, Standing, State, Task, after
from services.domain.operation import OperationAction, OperationState, Phase

BUILD_TRIES_MAX = 3

# A create ends in ACTIVE; an evacuated one is what it was, or runs.
_BUILDS = (OperationAction.CREATE_INSTANCE, OperationAction.EVACUATE_INSTANCE)


def is_being_built(standing: Standing) -> bool:
    """Whether the guest of its newest claim is only coming into being."""
    return standing.state is State.BUILDING or standing.task is Task.EVACUATING


def built(situation: Situation, seen: Seen, now_s: float) -> Item | None:
    """Its host has come further with it, or is done. None where nothing of it is news."""
    instance, operation = situation.instance, situation.operation
    if operation is None or operation.action not in _BUILDS:
        return None
    if seen.applied_generation >= instance.generation:
        wanted = instance.wanted.power
        created = operation.action is OperationAction.CREATE_INSTANCE
        following = after(instance.standing, Event.STARTED if created else SEEN[wanted])
        if isinstance(following, Illegal):
            return None
        started = replace(instance, standing=following, power=wanted, fault="")
        done = (ended(operation, OperationState.DONE, now_s),)
        # It may have gone off again since: what is seen now follows at once.
        since = drifted(started, seen.power, fault=lost(seen))
        return replace(since or Item(instance=started), operations=done)
    told = progressed(operation, seen.progress)
    return Item(operations=(told,)) if told else None


def build_lost(
    situation: Situation, operation: OperationRow, seen: Seen, *, now_s: float
) -> Item | None:
    """Its host says that nothing of it is there or ever will be: another host's turn, a few times.
    MECHANICS C3.
    """
    instance, release = situation.instance, released(seen)
    reason, message = seen.failure or ("GUEST_LOST", "the host lost the guest while building it")
    tries = operation.tries + 1
    if tries >= BUILD_TRIES_MAX:
        fault = OperationFault(
            INTERNAL,
            "BUILD_FAILED",
            f"{tries} hosts could not build it; the last one said {reason}: {message}",
            {"cause": reason, "tries": str(tries)},
        )
        return failed(
            replace(situation, operation=replace(operation, tries=tries)), fault, (release,), now_s
        )
    following = after(instance.standing, Event.BUILD_LOST)
    if isinstance(following, Illegal):
        return None
    retried = replace(
        entered(operation, Phase.PLACING, now_s),
        tries=tries,
        progress=f"{reason}: {message}"[:200],
        last_fault=OperationFault(INTERNAL, reason, message, {"host_tries": str(tries)}),
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


def failed(
    situation: Situation, fault: OperationFault, claims: tuple[ClaimChange, ...], now_s: float
) -> Item | None:
    """The instance is in ERROR and the operation FAILED, both with the cause."""
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
        operations=(ended(situation.operation, OperationState.FAILED, now_s, fault),),
        claims=claims,
    )
