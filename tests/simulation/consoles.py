"""Users of a simulated cloud who look at consoles and type into them, at moments of the seed.

Owns what a console may show: what its own guest wrote, of the epoch that the instance had while it
was asked for, and each byte at one place for ever. All else must be a refusal that says why.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.api.edges.public_messages import host_of
from services.api.flows.open_console import Opening, Output, Said, Told, open_console
from services.api.flows.ports import ConsoleOpening
from services.api.flows.read_console import Console, ConsoleAsk, LineOpened, read_console
from services.conductor.logic.rows import InstanceRow
from services.domain.errors import CloudError, Unavailable
from services.domain.instance import State, Task
from tests.simulation.clients import Client, Work, caller_of
from tests.simulation.parts import ApiDoor
from tests.simulation.world import World

LOOK_S = 2.0
# Longer than api waits for a host.
ANSWER_S = 30.0
TRIES_MAX = 20
READ_AT_LAST = 3
TYPED = re.compile(r"#([0-9a-f-]{36})#(\S+)\n")
NAMED = re.compile(r"STEAD-GUEST name=\S+ id=(\S+)\nSTARTED host=(\S+) epoch=(\d+)\n")
REASONS = frozenset(
    "INSTANCE_NOT_FOUND CONSOLE_NOT_READY CONSOLE_IN_USE CONSOLE_TAKEN_OVER LANE_FULL"
    " CONSOLE_OFFSET_GONE TOO_MANY_CONSOLES".split()
)


class Onlooker(Client):
    """One user of a project, who asks now and then for what is another's."""

    def __init__(self, world: World, work: Work, project_id: str) -> None:
        super().__init__(world, work, f"onlooker of {project_id}", caller_of(project_id))
        self._project_id = project_id
        self._typed = 0
        # What stands from the first byte on, by instance and epoch.
        self._shown: dict[tuple[str, int], bytes] = {}

    async def live(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / LOOK_S))
            rows = [row for row in self._rows() if self._is_own(row) or self.rng.random() < 0.1]
            if not rows:
                continue
            row = self.rng.choice(rows)
            try:
                if self.rng.random() < 0.5:
                    await self._read(row)
                else:
                    await self._open(row)
            except CloudError as error:
                self._refused(row, error)

    async def look_at_last(self) -> None:
        """Of a cloud that is whole the consoles of what is ACTIVE can be read."""
        for row in [row for row in self._rows() if self._is_own(row) and _runs(row)][:READ_AT_LAST]:
            for _ in range(TRIES_MAX):
                try:
                    await self._read(row)
                    break
                except CloudError as error:
                    self._refused(row, error)
                await asyncio.sleep(1.0)
            else:
                self._wrong(f"the console of {row.id} cannot be read at last")

    def _rows(self) -> list[InstanceRow]:
        """Known to the harness, which spares the user a list."""
        return [row for row in self._world.store.rows.instances.values() if not row.deleted]

    def _is_own(self, row: InstanceRow) -> bool:
        return row.project_id == self._project_id

    async def _read(self, row: InstanceRow) -> None:
        ask = ConsoleAsk(row.id, self.rng.choice([0, 0, 40]))

        async def read(door: ApiDoor) -> Console:
            return await read_console(
                door.conductor, door.consoles, self.caller, ask, host_of=host_of
            )

        began = self._epoch(row)
        told = await self._world.ask(self.rng.choice(self._world.apis), read, ANSWER_S)
        self._judge(row, told.content, told.start_offset, began)

    async def _open(self, row: InstanceRow) -> None:
        """Reads from the first byte on, and types a line that no other will."""
        write, began = self.rng.random() < 0.7, self._epoch(row)
        take_over = self.rng.random() < 0.5
        self._typed += 1
        line = f"#{row.id}#{self._project_id}-{self._typed}\n".encode()

        async def said() -> AsyncGenerator[Said, None]:
            yield Opening(row.id, ConsoleOpening(0, write=write, take_over=take_over))
            if write:
                yield line[:10]
                yield line[10:]

        def watch(door: ApiDoor) -> AsyncGenerator[Told, None]:
            return open_console(door.conductor, door.consoles, self.caller, said(), host_of=host_of)

        content, slot = b"", self.rng.choice(self._world.apis)
        try:
            stream = self._world.stream(slot, watch, ANSWER_S)
            async with aclosing(stream), asyncio.timeout(ANSWER_S):
                async for told in stream:
                    content = self._heard(row, content, told)
                    if line in content or (content and not write):
                        break
        except TimeoutError:
            """It says no more."""
        finally:
            self._judge(row, content, 0, began)

    def _heard(self, row: InstanceRow, content: bytes, told: Told) -> bytes:
        match told:
            case LineOpened() if told.offset:
                self._wrong(f"the console of {row.id} was opened at {told.offset}, not 0")
            case Output():
                content += told.content
                if told.end_offset != len(content):
                    self._wrong(f"the console of {row.id} is at {told.end_offset}: {content!r}")
        return content

    def _judge(self, row: InstanceRow, content: bytes, start: int, began: int) -> None:
        if content and not self._is_own(row):
            self._wrong(f"{self._name} was shown the console of {row.project_id}")
        text = content.decode("latin-1")
        typed = TYPED.findall(text)
        if len(set(typed)) < len(typed) or any(id_ != row.id for id_, _ in typed):
            self._wrong(f"into the console of {row.id} was typed {typed}")
        named = {(id_, int(epoch)) for id_, _, epoch in NAMED.findall(text)}
        if any(id_ != row.id for id_, _ in named) or len(named) > 1:
            self._wrong(f"the console of {row.id} is that of {sorted(named)}")
        for _, epoch in named:
            if epoch < began:
                self._wrong(f"the console of {row.id} is of epoch {epoch}, not {began} or later")
            if start == 0:
                self._compare((row.id, epoch), content)

    def _compare(self, guest: tuple[str, int], content: bytes) -> None:
        known = self._shown.get(guest, b"")
        shorter, longer = sorted((known, content), key=len)
        if not longer.startswith(shorter):
            self._wrong(f"the console of {guest} was {known!r} and is {content!r}")
        self._shown[guest] = longer

    def _epoch(self, row: InstanceRow) -> int:
        now = self._world.store.rows.instances.get(row.id)
        return now.epoch if now is not None else 0

    def _refused(self, row: InstanceRow, error: CloudError) -> None:
        if not self._is_own(row) and error.reason == "INSTANCE_NOT_FOUND":
            return
        if not isinstance(error, Unavailable) and error.reason not in REASONS:
            self._work.troubles.append(f"{self._name} was refused: {error!r}")

    def _wrong(self, trouble: str) -> None:
        """A database that is set back gives epochs and instances another past."""
        if not self._world.shape.restored:
            self._work.troubles.append(trouble)


def _runs(row: InstanceRow) -> bool:
    return row.standing.state is State.ACTIVE and row.standing.task is Task.NONE
