"""Accepts wishes: decide, commit, and decide again where the ground has moved; each wish becomes
one item, and its answer is what was committed.

Owns what all wishes share. Does not own who may ask, which api decided, nor what each noun's wish
writes (accept_instance and its neighbours), nor how an answer is put together (answer).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from services.conductor.flows.answer import Accepted, Answerer, Asked
from services.conductor.flows.commit import Committer, Urgency
from services.conductor.flows.look import Looker
from services.conductor.flows.ports import Clock, Ids, Store
from services.conductor.flows.tell import tell_trouble
from services.conductor.logic import operations
from services.conductor.logic.items import Committed, Item, Outcome
from services.conductor.logic.operations import About
from services.conductor.logic.rows import CatalogRow, OperationRow, Situation
from services.domain.errors import CloudError, NotFound, Unavailable
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction
from services.runtime.lane import Lane
from services.runtime.log import logger

TRIES_MAX = 8

Decide = Callable[[], Awaitable[Item]]


class Acceptance:
    """The common way of all wishes, and what they look at on it."""

    def __init__(
        self,
        *,
        store: Store,
        committer: Committer,
        clock: Clock,
        ids: Ids,
        answers: Answerer,
    ) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self._committer = committer
        self._answers = answers
        self._looker = Looker(store, committer.memory)
        self._catalog: Lane[tuple[ResourceKind, str], CatalogRow | None] = Lane(
            self._catalog_round, name="catalog reads"
        )

    async def run(self) -> None:
        """Runs the reading lanes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._looker.run())
            group.create_task(self._catalog.run())

    async def accept(
        self,
        asked: Asked,
        kind: ResourceKind,
        decide: Decide,
        *,
        urgency: Urgency = Urgency.ACCEPTED,
    ) -> Accepted:
        """The answer to a wish for a thing of this kind: `decide` gives its item or raises why not.

        What it raises counts only if no earlier, identical request was accepted.
        Raises Invalid (REQUEST_ID_REUSED), AlreadyExists (NAME_TAKEN), NoCapacity (QUOTA_EXCEEDED),
        WrongState (PROJECT_NOT_EMPTY), Unavailable (ROW_CONTENDED), and what `decide` raises.
        """
        for _ in range(TRIES_MAX):
            try:
                item = await decide()
            except Unavailable:
                raise
            except CloudError as error:
                return await self._answers.replay_or(asked, kind, error)
            outcome = await self._outcome(asked, item, urgency)
            if isinstance(outcome, Committed):
                accepted = await self._answers.committed(asked, kind, item, outcome)
                _tell(asked, accepted)
                return accepted
            answered = await self._answers.refused(kind, item, outcome)
            if answered is not None:
                return answered
        raise Unavailable("ROW_CONTENDED", "it changes too fast; ask again")

    async def instance(self, asked: Asked, instance_id: str) -> Situation:
        """The situation of a living instance that the caller may touch. Raises NotFound
        (INSTANCE_NOT_FOUND) also for another project's, Unavailable (DEADLINE_PASSED).
        """
        situation = await self._looker.look(instance_id, time_left_s=asked.time_left_s())
        if situation is None or not asked.may_touch(situation.instance.project_id):
            raise missing(ResourceKind.INSTANCE, instance_id)
        if situation.instance.deleted:
            raise missing(ResourceKind.INSTANCE, instance_id)
        return situation

    async def entries(
        self, asked: Asked, *wanted: tuple[ResourceKind, str]
    ) -> list[CatalogRow | None]:
        """Living flavors, images and key pairs by kind and id, whoever's, in order. Raises
        Unavailable (DEADLINE_PASSED).
        """
        left_s = asked.time_left_s()
        looks = [self._catalog.put(one, time_left_s=left_s) for one in wanted]
        return [await look for look in looks]

    def done(self, asked: Asked, action: OperationAction, about: About) -> OperationRow:
        """The operation of what is done with its acceptance."""
        return operations.done_operation(
            self.ids.new_id(),
            about,
            action=action,
            author=asked.author,
            now_s=self.clock.now_s(),
        )

    async def _outcome(self, asked: Asked, item: Item, urgency: Urgency) -> Outcome:
        if asked.validate_only:
            return await self._committer.check(
                item, asked.caller.project_id, deadline=asked.deadline
            )
        return await self._committer.commit(
            item, asked.caller.project_id, urgency=urgency, deadline=asked.deadline
        )

    async def _catalog_round(
        self, wanted: Sequence[tuple[ResourceKind, str]]
    ) -> list[CatalogRow | None | Exception]:
        found = await self.store.catalog_read(wanted)
        return [found.get(one) for one in wanted]


def missing(kind: ResourceKind, id: str) -> NotFound:
    """There is no such thing for this caller. Raised as INSTANCE_NOT_FOUND, HOST_NOT_FOUND …"""
    noun = kind.name.lower().replace("_", " ")
    return NotFound(f"{kind.name}_NOT_FOUND", f"there is no {noun} {id}", metadata={"id": id})


def _tell(asked: Asked, accepted: Accepted) -> None:
    if accepted.made is not None:
        tell_trouble(accepted.made)
        logger().info(
            "accepted",
            method=asked.method,
            resource=accepted.resource.id,
            operation=accepted.operation.id,
            correlation_id=asked.trace.correlation_id,
            traceparent=asked.trace.traceparent,
        )
