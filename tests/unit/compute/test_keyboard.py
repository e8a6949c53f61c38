"""A keyboard on a terminal as QEMU makes it: all bytes arrive, and nobody is held up."""

import asyncio
import os
import tty
from pathlib import Path

import pytest

from services.compute.edges.drivers.libvirt.keyboard import TerminalKeyboard
from services.compute.flows.ports import StepFailed


class Guest:
    """The other end of a terminal, with the guest behind it; none while it is off."""

    def __init__(self) -> None:
        self.end: int | None = None
        self.path: str | None = None

    def start(self) -> None:
        self.end, inner = os.openpty()
        tty.setraw(inner)
        self.path = os.ttyname(inner)
        os.close(inner)
        os.set_blocking(self.end, False)

    def stop(self) -> None:
        assert self.end is not None
        os.close(self.end)
        self.end = self.path = None

    async def find(self) -> str | None:
        return self.path

    async def reads(self, count: int) -> bytes:
        assert self.end is not None
        content = b""
        async with asyncio.timeout(60):
            while len(content) < count:
                try:
                    content += os.read(self.end, 1000)
                except BlockingIOError:
                    await asyncio.sleep(0.001)
        return content


@pytest.fixture
def guest():
    made = Guest()
    made.start()
    yield made
    if made.end is not None:
        made.stop()


@pytest.fixture
async def keyboard(guest):
    made = TerminalKeyboard(guest.find)
    yield made
    made.close()


async def test_what_a_slow_guest_does_not_take_at_once_arrives_whole(guest, keyboard):
    typed = os.urandom(200_000)
    typing = asyncio.ensure_future(keyboard.write(typed))
    await asyncio.sleep(0.05)
    assert not typing.done(), "a terminal holds a few KiB"
    assert await guest.reads(len(typed)) == typed
    await asyncio.wait_for(typing, 60)


async def test_what_a_guest_writes_is_taken_without_end(guest, keyboard):
    await keyboard.connect()
    left = 1_000_000
    async with asyncio.timeout(60):
        while left:
            try:
                left -= os.write(guest.end, b"x" * min(left, 4000))
            except BlockingIOError:
                await asyncio.sleep(0)


async def test_a_guest_that_is_off_is_told_and_the_next_boot_is_found(guest, keyboard):
    await keyboard.write(b"first")
    assert await guest.reads(5) == b"first"
    guest.stop()
    with pytest.raises(StepFailed) as refused:
        await keyboard.write(b"nobody")
    assert refused.value.reason == "CONSOLE_NOT_READY"
    guest.start()
    await keyboard.write(b"second")
    assert await guest.reads(6) == b"second"


async def test_a_guest_that_goes_while_it_is_typed_into_ends_the_wait(guest, keyboard):
    typing = asyncio.ensure_future(keyboard.write(b"x" * 200_000))
    await asyncio.sleep(0.05)
    guest.stop()
    with pytest.raises(StepFailed):
        await asyncio.wait_for(typing, 60)


async def test_a_guest_that_goes_while_its_terminal_is_opened_is_told_as_off(tmp_path):
    # As a terminal whose other end has closed, a file opens and is none.
    path = tmp_path / "terminal"
    path.touch()
    guest = Guest()
    guest.path = str(path)
    keyboard = TerminalKeyboard(guest.find)
    await keyboard.connect()
    with pytest.raises(StepFailed) as refused:
        await keyboard.write(b"nobody")
    assert refused.value.reason == "CONSOLE_NOT_READY"
    opened = {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}
    assert str(path) not in opened


async def test_who_is_cancelled_while_it_types_leaves_a_keyboard_that_works(guest, keyboard):
    typing = asyncio.ensure_future(keyboard.write(b"x" * 200_000))
    await asyncio.sleep(0.05)
    typing.cancel()
    await asyncio.wait({typing})
    while os.get_blocking(guest.end) is False:
        try:
            os.read(guest.end, 4000)
        except BlockingIOError:
            break
    await keyboard.write(b"after")
    assert (await guest.reads(5)).endswith(b"after")
