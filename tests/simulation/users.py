"""Users of a simulated cloud: they create, start, stop, reboot, rename and delete at random, call
creates off, keep key pairs, ask again with the same request id while nobody knows, and watch
through every cut.

Owns what they were told. Judges nothing.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import duration_pb2, field_mask_pb2
from stead.v1 import instance_pb2, key_pair_pb2, operation_pb2

from services.api.flows.ports import Row
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
from tests.simulation.clients import Client, Work, caller_of
from tests.simulation.parts import PAGE_KEY, ApiDoor
from tests.simulation.world import World

State = instance_pb2.InstanceState
TRIES_MAX = 12
LIVING_MAX = 12
BOOKMARK_S = 5.0
SILENCE_S = 12.0
PAIRS_MAX = 3
# What every ed25519 key begins with; 32 bytes of its own follow.
ED25519 = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
RESUMED = frozenset("WATCH_TOO_SLOW API_STOPPING TOKEN_EXPIRED LANE_FULL TOO_MANY_WATCHES".split())


class User(Client):
    """One user of a project: one wish at a time."""

    def __init__(self, world: World, work: Work, name: str, project_id: str) -> None:
        super().__init__(world, work, name, caller_of(project_id))
        self._known: dict[str, int] = {}
        # Key pairs that are surely there, or surely not any more.
        self._pairs: list[str] = []
        self._lost_pairs: list[str] = []
        self._serial = 0

    async def live(self) -> None:
        """Asks until nothing is left to be asked for."""
        while self._work.left > 0:
            self._work.left -= 1
            await self._one()
            await asyncio.sleep(self.rng.expovariate(1.0))

    async def _one(self) -> None:
        rng, known = self.rng, self._known
        if rng.random() < 0.06:
            await self._change_pairs()
            return
        if not known or (len(known) < LIVING_MAX and rng.random() < 0.4):
            await self._create()
            return
        chosen = rng.choice(list(known))
        state = known[chosen]
        moves = ["Delete", "Delete", "Rename", "Stop"]
        if state == State.INSTANCE_STATE_STOPPED:
            moves = ["Start", "Start", "Delete", "Rename"]
        elif state == State.INSTANCE_STATE_ACTIVE:
            moves = ["Stop", "Reboot", "Delete", "Rename"]
        elif rng.random() < 0.6:
            await self._look(chosen)
            return
        move = rng.choice(moves)
        wish = self._wish(move, chosen)
        await self._ask("UpdateInstance" if move == "Rename" else f"{move}Instance", wish, chosen)

    def _wish(self, move: str, instance_id: str) -> Any:
        request_id, rng = self._world.ids.new_id(), self.rng
        if move == "Rename":
            return instance_pb2.UpdateInstanceRequest(
                request_id=request_id, id=instance_id, name=self._name_of_a_new(),
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
        }[move]
        return make(request_id=request_id, id=instance_id)

    def _name_of_a_new(self) -> str:
        self._serial += 1
        luck = self.rng.random()
        if luck < 0.03:
            return "twice"
        prefix = "fail-" if luck < 0.08 else "flaky-" if luck < 0.13 else ""
        prefix = prefix or ("deaf-" if luck < 0.16 else "")
        return f"{prefix}{self._name}-{self._serial}"

    async def _create(self) -> None:
        rng = self.rng
        pairs = rng.sample(self._pairs, rng.randint(0, len(self._pairs)))
        gone = rng.sample(self._lost_pairs, 1) if self._lost_pairs and rng.random() < 0.1 else []
        wish = instance_pb2.CreateInstanceRequest(
            request_id=self._world.ids.new_id(),
            name=self._name_of_a_new(),
            flavor_id=self._world.flavor_id,
            image_id=self._world.image_id,
            key_pair_ids=[*pairs, *gone],
        )
        call = await self._ask("CreateInstance", wish, "")
        missed = call.reason == "KEY_PAIR_NOT_FOUND"
        if (missed and not gone) or (gone and call.ending is Ending.OK):
            self._unless_restored(f"{self._name} made {pairs} and deleted {gone}: {call}")
        if call.operation_id and rng.random() < 0.1:
            await asyncio.sleep(rng.choice([0.0, 0.05, 1.0]) * rng.random())
            await self._call_off(call.operation_id)

    async def _call_off(self, operation_id: str) -> None:
        wish = operation_pb2.CancelOperationRequest(
            request_id=self._world.ids.new_id(), id=operation_id
        )
        await self._ask("CancelOperation", wish, operation_id)

    async def _change_pairs(self) -> None:
        """One more, or one less."""
        rng, new_id = self.rng, self._world.ids.new_id
        if len(self._pairs) < PAIRS_MAX and rng.random() < 0.7:
            key = b64encode(ED25519 + rng.randbytes(32)).decode()
            new = key_pair_pb2.CreateKeyPairRequest(
                request_id=new_id(), name=self._name_of_a_new(), public_key=f"ssh-ed25519 {key}"
            )
            made = await self._ask("CreateKeyPair", new, "")
            if made.ending is Ending.OK:
                self._pairs.append(made.resource_id)
        elif self._pairs:
            id_ = self._pairs.pop(rng.randrange(len(self._pairs)))
            old = key_pair_pb2.DeleteKeyPairRequest(request_id=new_id(), id=id_)
            gone = await self._ask("DeleteKeyPair", old, id_)
            if gone.ending is Ending.OK:
                self._lost_pairs.append(id_)

    def _unless_restored(self, trouble: str) -> None:
        """What a user relies on is lost with a database that is set back."""
        if not self._world.shape.restored:
            self._work.troubles.append(trouble)

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

    async def _ask(self, method: str, wish: Any, resource_id: str) -> Call:
        rng = self.rng
        if rng.random() < 0.05:
            # Twice at once, as by a client that does not wait for its first try.
            twin = asyncio.create_task(self.once(method, wish, resource_id))
            call = await self.until_known(method, wish, resource_id)
            await twin
        else:
            call = await self.until_known(method, wish, resource_id)
        known = call.ending is Ending.OK
        if known and rng.random() < 0.06:
            await self.once(method, wish, resource_id)
        if known and rng.random() < 0.03 and method == "CreateInstance":
            other = instance_pb2.CreateInstanceRequest()
            other.CopyFrom(wish)
            other.name += "-other"
            await self.once(method, other, resource_id)
        return call


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
