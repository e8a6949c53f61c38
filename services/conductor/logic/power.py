"""The power switch of an instance: what is asked of it, and what its host sees of it.

| task      | applied | seen         | state   | operation | wish                       |
|-----------|---------|--------------|---------|-----------|----------------------------|
| none      |         | otherwise    | as seen |           | as seen: its owner did it  |
| any       | before  | anything     | as it is| goes on   | stays: it comes yet        |
| any       | now     | as wanted    | new     | DONE      | stays                      |
| any       | now     | the contrary | as seen | DONE      | as seen: it changed since  |
| any       | before  | a failure    | as seen | FAILED    | as seen                    |

"Before" and "now" are the generation that the host has applied and the one that is wanted. So a
guest that goes off by itself during a soft reboot is only on its way: its host starts it yet.
Source: MECHANICS B1, B2.
"""

from dataclasses import replace

from services.conductor.logic.guest_policy import LOST_REASON, MADE
from services.conductor.logic.items import Item
from services.conductor.logic.observation import Seen
from services.conductor.logic.operations import INTERNAL, ended, progressed
from services.conductor.logic.rows import InstanceRow, OperationFault, OperationRow, Situation
from services.domain.instance import (
    ASKED,
    SEEN,
    SWITCHING_TASKS,
    Action,
    Event,
    Illegal,
    Power,
    Standing,
    after,
)
from services.domain.operation import OperationState

# How the guest shall be when it is done.
_WANTED = {
    Action.START: Power.RUNNING,
    Action.STOP: Power.OFF,
    Action.REBOOT: Power.RUNNING,
    Action.HARD_REBOOT: Power.RUNNING,
    Action.PAUSE: Power.PAUSED,
    Action.UNPAUSE: Power.RUNNING,
    Action.SUSPEND: Power.SUSPENDED,
    Action.RESUME: Power.RUNNING,
}
_REBOOTS = (Action.REBOOT, Action.HARD_REBOOT)


def power_asked(
    situation: Situation, action: Action, operation: OperationRow, grace_s: int = 0
) -> Item | Illegal:
    """Its power switch is asked for: another wish, which its host has yet to make true.

    `grace_s` is how long the guest may take to go down by itself.
    """
    instance = situation.instance
    following = after(instance.standing, ASKED[action])
    if isinstance(following, Illegal):
        return following
    if situation.holder is None:
        return Illegal("INVALID_INSTANCE_STATE", "the instance has no host")
    wanted = replace(
        instance.wanted,
        power=_WANTED[action],
        boot=instance.wanted.boot + (action in _REBOOTS),
        grace_s=grace_s,
    )
    asked = replace(instance, standing=following, generation=instance.generation + 1, wanted=wanted)
    return Item(instance=asked, wants=True, operations=(operation,))


def power_seen(situation: Situation, seen: Seen, now_s: float) -> Item | None:
    """What a host's look at the guest that it holds changes; None if nothing."""
    instance, operation = situation.instance, situation.operation
    if operation is None or instance.standing.task not in SWITCHING_TASKS:
        return drifted(instance, seen.power, fault=lost(seen))
    if seen.applied_generation >= instance.generation and seen.power is not Power.PENDING:
        return _made(instance, operation, seen, now_s=now_s)
    if seen.failure is not None and seen.failed_generation in (0, instance.generation):
        return _failed(instance, operation, seen, now_s=now_s)
    return _under_way(instance, operation, seen)


def lost(seen: Seen) -> str:
    """Why, in words, where nothing is left of a guest that was made; empty otherwise."""
    if seen.failure is None or seen.failure[0] != LOST_REASON or seen.power is not Power.CRASHED:
        return ""
    return f"{LOST_REASON}: {seen.failure[1]}"


def drifted(instance: InstanceRow, power: Power, *, fault: str = "") -> Item | None:
    """A guest that is otherwise than it was left: state and wish follow, as `guest_policy` says.

    PENDING says nothing: the host has not looked. `fault` says why it is gone, if it is.
    """
    fault = fault if instance.standing.state in MADE else instance.fault
    if power is Power.PENDING or (power is instance.power and fault == instance.fault):
        return None
    changed = replace(instance, power=power, fault=fault)
    following = after(instance.standing, SEEN[power])
    if isinstance(following, Illegal):
        return Item(instance=changed)
    return Item(instance=_wishing(changed, following), wants=True)


def _made(
    instance: InstanceRow, operation: OperationRow, seen: Seen, *, now_s: float
) -> Item | None:
    """The wish is applied. What is seen may be the contrary: then the guest changed since."""
    wanted = instance.wanted.power
    following = after(instance.standing, SEEN[wanted])
    if isinstance(following, Illegal):
        return None
    made = replace(instance, standing=following, power=wanted)
    item = drifted(made, seen.power, fault=lost(seen)) or Item(instance=made)
    return replace(item, operations=(ended(operation, OperationState.DONE, now_s),))


def _failed(
    instance: InstanceRow, operation: OperationRow, seen: Seen, *, now_s: float
) -> Item | None:
    assert seen.failure is not None
    power = instance.power if seen.power is Power.PENDING else seen.power
    reason, message = seen.failure
    fault = OperationFault(INTERNAL, reason, message, {"host_reason": reason})
    over = ended(operation, OperationState.FAILED, now_s, fault)
    return _left(replace(instance, power=power), over)


def left_as_seen(situation: Situation, over: OperationRow) -> Item | None:
    """A switch that is given up: state and wish are again what was last seen, and `over` is how its
    operation ended. None where nothing is being switched.
    """
    if situation.instance.standing.task not in SWITCHING_TASKS:
        return None
    return _left(situation.instance, over)


def _left(instance: InstanceRow, over: OperationRow) -> Item | None:
    following = after(instance.standing, SEEN.get(instance.power, Event.SEEN_OFF))
    if isinstance(following, Illegal):
        return None
    return Item(instance=_wishing(instance, following), wants=True, operations=(over,))


def _under_way(instance: InstanceRow, operation: OperationRow, seen: Seen) -> Item | None:
    """The wish stands and comes yet; only what can be seen changes."""
    looks_so = seen.power in (Power.PENDING, instance.power)
    told = progressed(operation, seen.progress)
    if looks_so and told is None:
        return None
    return Item(
        instance=None if looks_so else replace(instance, power=seen.power),
        operations=(told,) if told else (),
    )


def _wishing(instance: InstanceRow, standing: Standing) -> InstanceRow:
    """The instance as it is seen, and wanted so from now on."""
    power = Power.OFF if instance.power in (Power.PENDING, Power.CRASHED) else instance.power
    return replace(
        instance,
        standing=standing,
        generation=instance.generation + 1,
        wanted=replace(instance.wanted, power=power),
    )
