"""Accepts what is asked of an instance's power switch, where its host can do it."""

from dataclasses import replace

from services.conductor.flows.accept import Acceptance
from services.conductor.flows.advance import Advancer
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.flows.refuse import not_now, spoken
from services.conductor.logic import operations
from services.conductor.logic.items import Item
from services.conductor.logic.power import power_asked
from services.conductor.logic.rows import Situation
from services.domain.errors import Unsupported
from services.domain.instance import Action, Illegal
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction

_OPERATION = {
    Action.START: OperationAction.START_INSTANCE,
    Action.STOP: OperationAction.STOP_INSTANCE,
    Action.REBOOT: OperationAction.REBOOT_INSTANCE,
    Action.HARD_REBOOT: OperationAction.REBOOT_INSTANCE,
    Action.PAUSE: OperationAction.PAUSE_INSTANCE,
    Action.UNPAUSE: OperationAction.UNPAUSE_INSTANCE,
    Action.SUSPEND: OperationAction.SUSPEND_INSTANCE,
    Action.RESUME: OperationAction.RESUME_INSTANCE,
}
# What not every driver can do. The way back is asked for, too: a host may have got another driver.
_BY_DRIVER = frozenset({Action.PAUSE, Action.UNPAUSE, Action.SUSPEND, Action.RESUME})


class PowerAcceptor:
    """Turns wishes about power into commits."""

    def __init__(self, acceptance: Acceptance, advancer: Advancer) -> None:
        self._acceptance = acceptance
        self._advancer = advancer

    async def switch(
        self, asked: Asked, instance_id: str, action: Action, *, grace_s: int = 0
    ) -> Accepted:
        """Turns it; `grace_s` is how long the guest may take to go down by itself.

        Raises NotFound (INSTANCE_NOT_FOUND), WrongState (INVALID_INSTANCE_STATE,
        OPERATION_UNDER_WAY), Unsupported (DRIVER_CAPABILITY_MISSING).
        """

        async def decide() -> Item:
            situation = await self._acceptance.instance(asked, instance_id)
            row = situation.instance
            operation = operations.new_operation(
                self._acceptance.ids.new_id(),
                row,
                action=_OPERATION[action],
                author=asked.author,
                now_s=self._acceptance.clock.now_s(),
            )
            item = power_asked(situation, action, operation, grace_s)
            if isinstance(item, Illegal):
                raise not_now(row.standing, action, item)
            await self._require_able(situation, action)
            return replace(item, request=asked.key(row.id, operation.id))

        accepted = await self._acceptance.accept(asked, ResourceKind.INSTANCE, decide)
        if accepted.made is not None:
            self._advancer.nudge(instance_id)
        return accepted

    async def _require_able(self, situation: Situation, action: Action) -> None:
        if action not in _BY_DRIVER or situation.holder is None:
            return
        host_id = situation.holder.host_id
        host = (await self._acceptance.store.hosts_read([host_id])).get(host_id)
        if host is not None and action in host.lacks:
            raise Unsupported(
                "DRIVER_CAPABILITY_MISSING",
                f"the driver of the instance's host cannot {spoken(action)}",
                metadata={"action": action.name},
            )
