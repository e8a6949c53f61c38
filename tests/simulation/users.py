"""Users of a simulated cloud: they create, start, stop, reboot, rename and delete at random, call
creates off, ask again with the same request id while nobody knows, and watch through every cut.

Owns what they were told. Judges nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf import duration_pb2, field_mask_pb2
from stead.v1 import instance_pb2, operation_pb2

from services.api.edges.batch import fingerprint_of, wishes_of
from services.api.flows.ports import Accepted, Row
from services.api.flows.watch_rows import (
    Bookmark,
    Changed,
    Existing,
    Left,
    SnapshotDone,
    WatchAsk,
    WatchEvent,
    watch_rows,
)
from services.domain.errors import CloudError, Unavailable
from services.domain.kinds import ResourceKind
from tests.checkers.history import Call, Ending, Mark, Seen, Sign
from tests.simulation.belongings import Owner
from tests.simulation.clients import Work, caller_of
from tests.simulation.parts import PAGE_KEY, ApiDoor
from tests.simulation.world import World

State = instance_pb2.InstanceState
TRIES_MAX = 12
LIVING_MAX = 12
BATCH = "BatchCreateInstances"
BOOKMARK_S = 5.0
SILENCE_S = 12.0
RESUMED = frozenset("WATCH_TOO_SLOW API_STOPPING TOKEN_EXPIRED LANE_FULL TOO_MANY_WATCHES".split())


class User(Owner):
    """One user of a project: one wish at a time."""

    def __init__(self, world: World, work: Work, name: str, project_id: str) -> None:
        super().__init__(world, work, name, caller_of(project_id))
        self._known: dict[str, int] = {}

    async def live(self) -> None:
        """Asks until nothing is left to be asked for."""
        while self._work.left > 0:
            self._work.left -= 1
            await self._one()
            await asyncio.sleep(self.rng.expovariate(1.0))

    async def _one(self) -> None:
        rng, known = self.rng, self._known
        if rng.random() < 0.1:
            await self.change_belongings()
            return
        if not known or (len(known) < LIVING_MAX and rng.random() < 0.4):
            await (self._create_batch() if rng.random() < 0.06 else self._create())
            return
        chosen = rng.choice(list(known))
        state = known[chosen]
        moves = ["Delete", "Delete", "Rename", "Stop"]
        if state == State.INSTANCE_STATE_STOPPED:
            moves = ["Start", "Start", "Delete", "Rename"]
        elif state == State.INSTANCE_STATE_ACTIVE:
            moves = ["Stop", "Reboot", "Pause", "Suspend", "Delete", "Rename"]
        elif state == State.INSTANCE_STATE_PAUSED:
            moves = ["Unpause", "Unpause", "Reboot", "Delete"]
        elif state == State.INSTANCE_STATE_SUSPENDED:
            moves = ["Resume", "Resume", "Reboot", "Delete"]
        elif rng.random() < 0.6:
            await self._look(chosen)
            return
        move = rng.choice(moves)
        wish = self._wish(move, chosen)
        await self.ask_once_or_twice(
            "UpdateInstance" if move == "Rename" else f"{move}Instance", wish, chosen
        )

    def _wish(self, move: str, instance_id: str) -> Any:
        request_id, rng = self._world.ids.new_id(), self.rng
        if move == "Rename":
            return instance_pb2.UpdateInstanceRequest(
                request_id=request_id, id=instance_id, name=self.new_name(),
                update_mask=field_mask_pb2.FieldMask(paths=["name"]),
            )  # fmt: skip
        if move == "Stop":
            grace = duration_pb2.Duration(seconds=rng.choice([0, 2, 20]))
            return instance_pb2.StopInstanceRequest(
                request_id=request_id, id=instance_id, timeout=grace
            )
        if move == "Reboot":
            kinds = [instance_pb2.REBOOT_KIND_HARD, instance_pb2.REBOOT_KIND_SOFT]
            return instance_pb2.RebootInstanceRequest(
                request_id=request_id, id=instance_id, kind=rng.choice(kinds)
            )
        make = {
            "Delete": instance_pb2.DeleteInstanceRequest,
            "Start": instance_pb2.StartInstanceRequest,
            "Pause": instance_pb2.PauseInstanceRequest,
            "Unpause": instance_pb2.UnpauseInstanceRequest,
            "Suspend": instance_pb2.SuspendInstanceRequest,
            "Resume": instance_pb2.ResumeInstanceRequest,
        }[move]
        return make(request_id=request_id, id=instance_id)

    def new_name(self) -> str:
        """Some build with trouble, or not at all."""
        luck = self.rng.random()
        if luck < 0.03:
            return "twice"
        prefix = "fail-" if luck < 0.08 else "flaky-" if luck < 0.13 else ""
        return (prefix or ("deaf-" if luck < 0.16 else "")) + super().new_name()

    async def _create(self) -> None:
        rng, chosen = self.rng, self.chosen()
        wish = instance_pb2.CreateInstanceRequest(
            request_id=self._world.ids.new_id(),
            name=self.new_name(),
            flavor_id=self._world.flavor_id,
            image_id=chosen.image_id,
            key_pair_ids=chosen.pair_ids,
        )
        call = await self.ask_once_or_twice("CreateInstance", wish, "")
        self.judge(chosen, call)
        if rng.random() < 0.3:
            await self.delete_image(chosen.image_id)
        if call.operation_id and rng.random() < 0.1:
            await asyncio.sleep(rng.choice([0.0, 0.05, 1.0]) * rng.random())
            await self._call_off(call.operation_id)

    async def _create_batch(self) -> None:
        """Again with the same request id while it is not known what became of one of them."""
        new = [
            instance_pb2.NewInstance(
                name=self.new_name(),
                flavor_id=self._world.flavor_id,
                image_id=self._world.image_id,
            )
            for _ in range(self.rng.randint(2, 3))
        ]
        request = instance_pb2.BatchCreateInstancesRequest(
            request_id=self._world.ids.new_id(), instances=new
        )
        for _ in range(TRIES_MAX):
            calls = await self._batch_once(request)
            if all(call.ending is not Ending.UNKNOWN for call in calls):
                break
            await asyncio.sleep(self.rng.uniform(0.1, 3.0))

    async def _batch_once(self, request: instance_pb2.BatchCreateInstancesRequest) -> list[Call]:
        wishes, invoked_s = wishes_of(request), self._world.loop.time()
        found: Sequence[Accepted | CloudError]
        try:
            found = await self._world.ask(
                self.rng.choice(self._world.apis),
                lambda door: door.conductor.batch_accept(
                    self.caller, wishes, fingerprint_of(request)
                ),
            )
        except CloudError as error:
            found = [error] * len(wishes)
        calls = [
            self.note(f"{BATCH}#{n}", wish, outcome, resource_id="", invoked_s=invoked_s)
            for n, (wish, outcome) in enumerate(zip(wishes, found, strict=True))
        ]
        made = [call.resource_id for call in calls if call.ending is Ending.OK]
        if len(set(made)) < len(made):
            self._work.troubles.append(f"a batch made one thing of several: {calls}")
        return calls

    async def _call_off(self, operation_id: str) -> None:
        wish = operation_pb2.CancelOperationRequest(
            request_id=self._world.ids.new_id(), id=operation_id
        )
        await self.ask_once_or_twice("CancelOperation", wish, operation_id)

    async def _look(self, instance_id: str) -> None:
        """Not a mutation."""
        try:
            row = await self._world.ask(
                self.rng.choice(self._world.apis),
                lambda door: door.conductor.row_read(
                    self.caller, ResourceKind.INSTANCE, instance_id
                ),
            )
        except CloudError:
            return
        if row is None or row.deleted:
            self._known.pop(instance_id, None)
        else:
            self.learn(row)

    def learn(self, row: Row) -> None:
        """Keeps what it knows of its instances."""
        if row.kind is not ResourceKind.INSTANCE:
            return
        instance = instance_pb2.Instance.FromString(row.body)
        if instance.state == State.INSTANCE_STATE_DELETED:
            self._known.pop(instance.id, None)
        else:
            self._known[instance.id] = instance.state

    def refused(self, resource_id: str, reason: str) -> None:
        """Nobody asks for what is gone."""
        if reason == "INSTANCE_NOT_FOUND":
            self._known.pop(resource_id, None)


class Watcher:
    """One watch through any number of connections, of a project or of the whole cloud."""

    def __init__(self, world: World, work: Work, name: str, project_id: str) -> None:
        self.name = name
        self.revision = 0
        self._world = world
        self._work = work
        self._rng = world.draws(name)
        self._project_id = project_id
        self._caller = caller_of(project_id or "cloud", admin=not project_id)
        self._token = ""

    async def live(self) -> None:
        """Watches until cancelled; now and then it goes away by itself and comes back."""
        while True:
            try:
                async with asyncio.timeout(self._rng.expovariate(1 / 60)):
                    await self._follow()
            except TimeoutError:
                pass
            except CloudError as error:
                self._refused(error)
            await asyncio.sleep(self._rng.uniform(0.1, 2.0))

    def _refused(self, error: CloudError) -> None:
        if error.reason == "REVISION_COMPACTED":
            self._token = ""
            self._note(Sign.COMPACTED)
        elif not isinstance(error, Unavailable) and error.reason not in RESUMED:
            self._work.troubles.append(f"{self.name} was refused: {error!r}")

    async def _follow(self) -> None:
        ask = WatchAsk(
            ResourceKind.INSTANCE,
            resume_token=self._token,
            all_projects=not self._project_id,
            bookmark_s=BOOKMARK_S,
            events_max=self._rng.choice([1, 16]),
        )

        def watch(door: ApiDoor) -> AsyncIterator[Any]:
            return watch_rows(door.conductor, door.feed, self._caller, ask, page_key=PAGE_KEY)

        self._note(Sign.RESUMED if self._token else Sign.BEGUN)
        slot = self._rng.choice(self._world.apis)
        async for run in self._world.stream(slot, watch, SILENCE_S):
            for event in run:
                self._take(event)
            self._token = run[-1].resume_token or self._token

    def _take(self, event: WatchEvent) -> None:
        match event:
            case SnapshotDone():
                self.revision = event.revision
                self._note(Sign.DONE, event.revision)
            case Bookmark():
                self.revision = event.revision
                self._note(Sign.BOOKMARK, event.revision)
            case Existing() | Changed() | Left():
                row = event.row
                instance = instance_pb2.Instance.FromString(row.body)
                state = instance_pb2.InstanceState.Name(instance.state)
                snapshot = isinstance(event, Existing)
                if not snapshot:
                    self.revision = event.revision
                self._work.seen.append(
                    Seen(
                        self.name, row.project_id, "instance", row.id, row.version, row.revision,
                        state.removeprefix("INSTANCE_STATE_"), row.deleted, snapshot,
                    )
                )  # fmt: skip

    def _note(self, sign: Sign, revision: int = 0) -> None:
        self._work.seen.append(Mark(self.name, sign, revision, self._project_id))
