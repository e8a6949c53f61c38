"""One guest of the fake driver: what is kept of it, and what it does when it is started or typed
into.

Does not own where it is kept: `fake_journal` does.
"""

import re
from dataclasses import dataclass, replace
from itertools import islice

from services.compute.logic.guest import NO_NOTES, Asking, Claim, Guest, Identity, Notes
from services.domain.instance import Power

CONSOLE_KEPT = 1 << 20
TYPED_KEPT = 64
# Of one input: it may ask for it in each of thousands of lines.
COUNTED_MAX = 1_000_000

_COUNT = re.compile(r"count ([0-9]{1,6})\r?")


@dataclass(frozen=True, slots=True)
class FakeGuest:
    """What is kept of a guest."""

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
    # Later than the others: what older releases wrote does not have them.
    console_offset: int = 0
    typed: str = ""
    boot: int = NO_NOTES.boot
    was: str = NO_NOTES.was
    asked: tuple[int, str, float] | None = None
    ran_in: str = NO_NOTES.ran_in

    @property
    def claim(self) -> Claim:
        """The claim under which it was made."""
        return Claim(self.instance_id, self.epoch)

    @property
    def incarnation(self) -> str:
        """Names this run of it."""
        return "" if self.power in (Power.OFF, Power.CRASHED) else str(self.starts)

    def seen(self) -> Guest:
        """The guest as a driver tells of it."""
        return Guest(
            Identity(self.cloud_id, self.instance_id, self.epoch),
            prepared=self.prepared,
            power=Power(self.power),
            applied_generation=self.applied_generation,
            incarnation=self.incarnation,
            notes=Notes(
                self.boot, self.was, Asking(*self.asked) if self.asked else None, self.ran_in
            ),
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
        numbers = (n for count in counts for n in range(1, count + 1))
        answer = "".join(f"{n}\n" for n in islice(numbers, COUNTED_MAX))
        return replace(self, typed=typed[-TYPED_KEPT:]).said(text + answer)

    def started(self) -> "FakeGuest":
        """The guest after a start: it has said who it is."""
        line = f"STEAD-GUEST name={self.name} id={self.instance_id}\n"
        on = replace(self, power=Power.RUNNING.value, starts=self.starts + 1, typed="")
        return on.said(line.encode().decode("latin-1"))

    def turned(self, power: Power) -> "FakeGuest":
        """The guest after it was frozen or suspended, or went on."""
        return replace(self, power=power.value)
