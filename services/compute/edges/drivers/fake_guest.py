"""One guest of the fake driver: what its file holds, and what it does when it is started or typed
into.

Does not own where files stand.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from services.compute.logic.guest import NO_NOTES, Asking, Claim, Guest, Identity, Notes
from services.domain.instance import Power

FILE_BYTES = 4096
CONSOLE_KEPT = 1 << 20
TYPED_KEPT = 64

_COUNT = re.compile(r"count ([0-9]{1,6})\r?")


@dataclass(frozen=True, slots=True)
class FakeGuest:
    """What the file of a guest holds."""

    cloud_id: str
    instance_id: str
    epoch: int
    name: str
    project_id: str
    image: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    prepared: bool
    power: int
    applied_generation: int
    starts: int
    # A character for each byte.
    console: str
    # Later than the others: files of older releases do not have them.
    console_offset: int = 0
    typed: str = ""
    boot: int = NO_NOTES.boot
    was: str = NO_NOTES.was
    asked: tuple[int, str, float] | None = None

    @property
    def claim(self) -> Claim:
        """The claim under which it was made."""
        return Claim(self.instance_id, self.epoch)

    @property
    def incarnation(self) -> str:
        """Names this run of it."""
        return str(self.starts) if self.power == Power.RUNNING else ""

    def seen(self) -> Guest:
        """The guest as a driver tells of it."""
        return Guest(
            Identity(self.cloud_id, self.instance_id, self.epoch),
            prepared=self.prepared,
            power=Power(self.power),
            applied_generation=self.applied_generation,
            incarnation=self.incarnation,
            notes=Notes(self.boot, self.was, Asking(*self.asked) if self.asked else None),
        )

    def said(self, more: str) -> "FakeGuest":
        """The guest after it wrote more; the oldest of too much is not kept."""
        console = self.console + more
        dropped = max(0, len(console) - CONSOLE_KEPT)
        return replace(
            self, console=console[dropped:], console_offset=self.console_offset + dropped
        )

    def after(self, content: bytes) -> "FakeGuest":
        """The guest after this was typed into it."""
        text = content.decode("latin-1")
        *lines, typed = (self.typed + text).split("\n")
        counts = [int(found[1]) for found in map(_COUNT.fullmatch, lines) if found]
        answer = "".join(f"{n}\n" for count in counts for n in range(1, count + 1))
        return replace(self, typed=typed[-TYPED_KEPT:]).said(text + answer)

    def started(self) -> "FakeGuest":
        """The guest after a start: it has said who it is."""
        line = f"STEAD-GUEST name={self.name} id={self.instance_id}\n"
        on = replace(self, power=Power.RUNNING.value, starts=self.starts + 1, typed="")
        return on.said(line.encode().decode("latin-1"))

    def file_content(self) -> bytes:
        """What stands in its file: a page, where it fits one."""
        content = json.dumps({name: getattr(self, name) for name in _FIELDS}).encode()
        return content.ljust(FILE_BYTES)


_FIELDS = tuple(field.name for field in fields(FakeGuest))


def load_guests(folder: Path) -> Iterator[FakeGuest]:
    """The guests in a folder; half-written files are dropped."""
    for draft in folder.glob("*.new"):
        draft.unlink()
    for path in sorted(folder.glob("*.json")):
        yield FakeGuest(**json.loads(path.read_text()))
