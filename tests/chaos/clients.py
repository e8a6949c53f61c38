"""Clients that create, start, stop, reboot, rename and delete, each call written down with what
became of it: accepted, refused, or nobody knows. Owns the calls. Judges none of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Protocol

import grpc
from google.protobuf import duration_pb2, field_mask_pb2
from stead.v1 import instance_pb2, instance_pb2_grpc, operation_pb2, operation_pb2_grpc

from services.runtime.ids import new_id
from tests.chaos.doors import UNKNOWN, Door, reason_of
from tests.checkers.history import Call, Ending

TRIES_MAX = 12
CALL_S = 4.0
PAUSE_S = (0.05, 0.6)
LIVING_MAX = 11
# The real host has one processor's time for all guests.
REAL_PAUSE_S = 15.0

State = instance_pb2.InstanceState
ACTIVE, STOPPED = State.INSTANCE_STATE_ACTIVE, State.INSTANCE_STATE_STOPPED
GOES_ON = {State.INSTANCE_STATE_PAUSED: "Unpause", State.INSTANCE_STATE_SUSPENDED: "Resume"}


class Wish(Protocol):
    """Any mutation."""

    request_id: str

    def SerializeToString(self, *, deterministic: bool) -> bytes: ...

    def CopyFrom(self, other: Any) -> None: ...


@dataclass(slots=True)
class Project:
    """What the clients of one project know of its instances: id and the state last heard of."""

    id: str
    token: str
    known: dict[str, int] = field(default_factory=dict)

    def learn(self, instances: Iterable[instance_pb2.Instance]) -> None:
        """Remembers what was heard."""
        for instance in instances:
            if instance.state == State.INSTANCE_STATE_DELETED:
                self.known.pop(instance.id, None)
            else:
                self.known[instance.id] = instance.state


@dataclass(frozen=True, slots=True)
class Goods:
    """What instances are made from."""

    flavor_id: str
    image_id: str


class Client:
    """One client of a project: one call at a time, again with its request id while nobody knows
    what became of it.
    """

    def __init__(self, name: str, project: Project, door: Door, seed: int) -> None:
        self.name = name
        self.calls: list[Call] = []
        self.accepted_s: list[float] = []
        self._project = project
        self._door = door
        self._random = Random(seed)
        self._serial = 0

    async def live(self, goods: Goods, until: asyncio.Event) -> None:
        """Calls at random until told to end."""
        while not until.is_set():
            await self._one(goods)
            await asyncio.sleep(self._random.uniform(*PAUSE_S))

    async def tend(self, goods: Goods, until: asyncio.Event) -> None:
        """Keeps one instance and switches it off and on, slowly: for hosts whose guests boot."""
        while not until.is_set():
            known = list(self._project.known.items())
            if not known:
                await self._create(goods)
            elif known[0][1] == STOPPED:
                await self._start(known[0][0])
            elif known[0][1] == ACTIVE:
                await self._random.choice([self._reboot, self._stop])(known[0][0])
            for _ in range(int(REAL_PAUSE_S * 2)):
                if not until.is_set():
                    await asyncio.sleep(0.5)

    async def _one(self, goods: Goods) -> None:
        known = self._project.known
        if not known or (len(known) < LIVING_MAX and self._random.random() < 0.45):
            await self._create(goods)
            return
        chosen = self._random.choice(list(known))
        moves: list[Callable[[str], Awaitable[None]]] = [self._delete, self._delete, self._rename]
        if known[chosen] == STOPPED:
            moves = [self._start, self._start, self._delete]
        elif known[chosen] == ACTIVE:
            holds = partial(self._turn, self._random.choice(["Pause", "Suspend"]))
            moves = [self._stop, self._reboot, holds, self._delete, self._rename, self._delete]
        elif known[chosen] in GOES_ON:
            moves = [partial(self._turn, GOES_ON[known[chosen]]), self._delete, self._reboot]
        elif self._random.random() < 0.7:
            moves = [self._look]
        await self._random.choice(moves)(chosen)

    async def _create(self, goods: Goods) -> None:
        self._serial += 1
        taken = self._random.random() < 0.03
        name = "twice" if taken else f"{self.name}-{self._serial}"
        wish = instance_pb2.CreateInstanceRequest(
            request_id=new_id(), name=name, flavor_id=goods.flavor_id, image_id=goods.image_id
        )
        await self._ask("CreateInstance", wish, "")

    async def _delete(self, instance_id: str) -> None:
        wish = instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=instance_id)
        await self._ask("DeleteInstance", wish, instance_id)

    async def _start(self, instance_id: str) -> None:
        wish = instance_pb2.StartInstanceRequest(request_id=new_id(), id=instance_id)
        await self._ask("StartInstance", wish, instance_id)

    async def _turn(self, verb: str, instance_id: str) -> None:
        make = getattr(instance_pb2, f"{verb}InstanceRequest")
        await self._ask(f"{verb}Instance", make(request_id=new_id(), id=instance_id), instance_id)

    async def _stop(self, instance_id: str) -> None:
        patience = duration_pb2.Duration(seconds=self._random.choice([0, 2]))
        wish = instance_pb2.StopInstanceRequest(
            request_id=new_id(), id=instance_id, timeout=patience
        )
        await self._ask("StopInstance", wish, instance_id)

    async def _reboot(self, instance_id: str) -> None:
        wish = instance_pb2.RebootInstanceRequest(
            request_id=new_id(), id=instance_id, kind=instance_pb2.REBOOT_KIND_HARD
        )
        await self._ask("RebootInstance", wish, instance_id)

    async def _rename(self, instance_id: str) -> None:
        self._serial += 1
        wish = instance_pb2.UpdateInstanceRequest(
            request_id=new_id(), id=instance_id, name=f"{self.name}-{self._serial}",
            update_mask=field_mask_pb2.FieldMask(paths=["name"]),
        )  # fmt: skip
        await self._ask("UpdateInstance", wish, instance_id)

    async def _look(self, instance_id: str) -> None:
        """Asks how it is; not a mutation, and not counted."""
        stub = instance_pb2_grpc.InstanceServiceStub(self._door.channel)
        request = instance_pb2.GetInstanceRequest(id=instance_id)
        try:
            answer = await stub.GetInstance(request, metadata=self._door.metadata, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                self._project.known.pop(instance_id, None)
            elif error.code() in UNKNOWN:
                await self._door.turn()
        else:
            self._project.learn([answer.instance])

    async def _ask(self, method: str, wish: Wish, resource_id: str) -> None:
        known = await self._until_known(method, wish, resource_id)
        if known and self._random.random() < 0.06:
            # As one does whose answer got lost: it must be the same instance and operation.
            await self._try(method, wish, resource_id)
        if (
            known
            and self._random.random() < 0.02
            and isinstance(wish, instance_pb2.CreateInstanceRequest)
        ):
            other = instance_pb2.CreateInstanceRequest()
            other.CopyFrom(wish)
            other.name += "-other"
            await self._try(method, other, resource_id)

    async def _until_known(self, method: str, wish: Wish, resource_id: str) -> bool:
        for again in range(TRIES_MAX):
            call = await self._try(method, wish, resource_id)
            if call.ending is not Ending.UNKNOWN:
                return call.ending is Ending.OK
            await self._door.turn()
            await asyncio.sleep(min(2.0, 0.1 * 2**again) * self._random.uniform(0.5, 1.0))
        return False

    async def _try(self, method: str, wish: Wish, resource_id: str) -> Call:
        stub = instance_pb2_grpc.InstanceServiceStub(self._door.channel)
        invoked_s = time.monotonic()
        ending, reason, operation_id, version = Ending.OK, "", "", 0
        try:
            ask = getattr(stub, method)
            answer = await ask(wish, metadata=self._door.metadata, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error) or error.code().name
            ending = Ending.UNKNOWN if error.code() in UNKNOWN else Ending.REFUSED
            if reason == "INSTANCE_NOT_FOUND":
                self._project.known.pop(resource_id, None)
        else:
            resource_id, operation_id = answer.instance.id, answer.operation.id
            version = answer.instance.version
            self._project.learn([answer.instance])
            self.accepted_s.append(time.monotonic())
        call = Call(
            client=self.name, method=method, project_id=self._project.id,
            request_id=wish.request_id, fingerprint=fingerprint(wish), invoked_s=invoked_s,
            ended_s=time.monotonic(), ending=ending, reason=reason, resource_id=resource_id,
            operation_id=operation_id, version=version,
        )  # fmt: skip
        self.calls.append(call)
        return call


def fingerprint(wish: Wish) -> str:
    """Names what was asked for, whoever asks and under whatever request id."""
    content = type(wish)()
    content.CopyFrom(wish)
    content.request_id = ""
    return hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()


async def wait_for(door: Door, operation_id: str, timeout_s: float) -> operation_pb2.Operation:
    """The operation once it has ended, or as it is after that time. Raises AioRpcError."""
    stub = operation_pb2_grpc.OperationServiceStub(door.channel)
    request = operation_pb2.WaitOperationRequest(
        id=operation_id, timeout=duration_pb2.Duration(seconds=int(timeout_s))
    )
    answer = await stub.WaitOperation(request, metadata=door.metadata, timeout=timeout_s + 5)
    return answer.operation
