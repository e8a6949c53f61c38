"""A guest's console on its way to a replica: every byte once, one who types, nobody held up."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from stead.internal.v1 import compute_pb2

from services.compute.edges.drivers.fake import FakeDriver, Faults
from services.compute.flows.answer_question import answer_question, refuse_question
from services.compute.flows.console_ports import ConsoleAsk, ConsolePiece, Keyboard, Question
from services.compute.flows.ports import StepFailed
from services.compute.logic.guest import Claim, Identity
from services.domain.instance import Power
from tests.fakes.ingress import FakeLine
from tests.integration.compute.conftest import CAPACITY, CLOUD_ID, Living, Stage, wanted

IMAGE = b"an image"
READ = ConsoleAsk(0, write=False, take_over=False)
WRITE = ConsoleAsk(0, write=True, take_over=False)
TAKE_OVER = ConsoleAsk(0, write=True, take_over=True)
LARGE_BYTES = 32 << 20


class Terminal:
    """One guest of a living host, and the lines to its console."""

    def __init__(self, stage: Stage, host: Living, wish: compute_pb2.Wanted) -> None:
        self.stage = stage
        self.host = host
        self.wish = wish
        self.works: list[asyncio.Task[None]] = []

    def open(self, ask: ConsoleAsk, claim: Claim | None = None) -> FakeLine:
        """Asks for the console, as a replica does."""
        ticket = f"t{len(self.works)}"
        line = self.stage.ingress.lines[ticket] = FakeLine()
        claim = claim or Claim(self.wish.instance_id, self.wish.epoch)
        question = Question(ticket, self.stage.target, claim, ask)
        work = answer_question(
            question, consoles=self.host.consoles, attachments=self.host.attachments
        )
        self.works.append(asyncio.ensure_future(work))
        return line

    async def opened(self, ask: ConsoleAsk) -> FakeLine:
        line = self.open(ask)
        await line.until(lambda: line.opened is not None)
        return line

    async def refusal(self, ask: ConsoleAsk, claim: Claim | None = None) -> str:
        """Why a console is not opened."""
        line = self.open(ask, claim)
        await line.until(lambda: line.failure)
        assert line.opened is None
        return line.failure


@asynccontextmanager
async def terminal_of(
    stage: Stage, driver: FakeDriver | None = None, name: str = "a"
) -> AsyncIterator[Terminal]:
    stage.ingress.blobs[hashlib.sha256(IMAGE).hexdigest()] = IMAGE
    async with stage.living(driver or stage.driver()) as host:
        await host.viewed()
        wish = wanted(name, IMAGE)
        host.command(wish)
        await host.until_seen(wish, lambda o: o.power == Power.RUNNING)
        terminal = Terminal(stage, host, wish)
        try:
            yield terminal
        finally:
            for work in terminal.works:
                work.cancel()
            await asyncio.gather(*terminal.works, return_exceptions=True)


@pytest.fixture
async def terminal(stage: Stage) -> AsyncIterator[Terminal]:
    async with terminal_of(stage) as made:
        yield made


def greeting(terminal: Terminal) -> bytes:
    return f"STEAD-GUEST name=a id={terminal.wish.instance_id}\n".encode()


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(1, count + 1))


async def test_readers_see_what_was_written_before_and_what_comes(terminal: Terminal):
    first, second = await terminal.opened(READ), await terminal.opened(READ)
    late = await terminal.opened(ConsoleAsk(None, write=False, take_over=False))
    assert (first.opened, late.opened) == (0, len(greeting(terminal)))
    writer = await terminal.opened(WRITE)
    writer.type(b"count 1000\n")
    answer = b"count 1000\n" + numbers(1000)
    for line in (first, second, writer):
        await line.until(lambda line=line: bytes(line.content) == greeting(terminal) + answer)
    await late.until(lambda: bytes(late.content) == answer)


async def test_one_looks_for_all_readers_and_nobody_where_nobody_reads(terminal: Terminal):
    followers = terminal.host.consoles.followers
    lines = [await terminal.opened(READ) for _ in range(5)]
    (followed,) = followers._followed.values()
    assert followed.readers == 5
    for line in lines:
        line.hang_up()
    await asyncio.wait_for(asyncio.gather(*terminal.works), 60)
    assert followers._followed == {}
    await asyncio.wait({followed.looking}, timeout=60)
    assert followed.looking.done()


async def test_a_second_who_wants_to_type_is_refused_until_the_first_goes(terminal: Terminal):
    first = await terminal.opened(WRITE)
    assert await terminal.refusal(WRITE) == "CONSOLE_IN_USE"
    first.hang_up()
    await asyncio.wait_for(terminal.works[0], 60)
    second = await terminal.opened(WRITE)
    second.type(b"mine\n")
    await second.until(lambda: second.content.endswith(b"mine\n"))


async def test_who_takes_the_keyboard_over_types_and_the_other_is_told(terminal: Terminal):
    first = await terminal.opened(WRITE)
    second = await terminal.opened(TAKE_OVER)
    await first.until(lambda: first.failure == "CONSOLE_TAKEN_OVER")
    first.type(b"too late\n")
    second.type(b"in time\n")
    await second.until(lambda: second.content.endswith(b"in time\n"))
    assert b"too late" not in second.content
    assert await terminal.refusal(WRITE) == "CONSOLE_IN_USE"


async def test_a_take_over_that_cannot_open_puts_off_nobody(terminal: Terminal):
    first = await terminal.opened(WRITE)
    gone = ConsoleAsk(10_000, write=True, take_over=True)
    assert await terminal.refusal(gone) == "CONSOLE_OFFSET_GONE"
    first.type(b"still here\n")
    await first.until(lambda: first.content.endswith(b"still here\n"))


class NoKeyboards(FakeDriver):
    """A fake host whose hypervisor lends no keyboards once it is `away`."""

    away = False

    @asynccontextmanager
    async def open_keyboard(self, identity: Identity) -> AsyncIterator[Keyboard]:
        if self.away:
            raise StepFailed("HYPERVISOR_UNREACHABLE", "it is away")
        async with super().open_keyboard(identity) as keyboard:
            yield keyboard


async def test_a_take_over_without_a_keyboard_puts_off_nobody(stage: Stage):
    folder = stage.folder / "fake" / "h1"
    driver = NoKeyboards(folder, cloud_id=CLOUD_ID, capacity=CAPACITY, faults=Faults())
    async with terminal_of(stage, driver) as terminal:
        first = await terminal.opened(WRITE)
        driver.away = True
        assert await terminal.refusal(TAKE_OVER) == "HYPERVISOR_UNREACHABLE"
        first.type(b"still here\n")
        await first.until(lambda: first.content.endswith(b"still here\n"))
        assert not first.failure


async def test_a_host_with_all_its_consoles_open_says_so_to_the_replica(terminal: Terminal):
    line = terminal.stage.ingress.lines["full"] = FakeLine()
    claim = Claim(terminal.wish.instance_id, terminal.wish.epoch)
    question = Question("full", terminal.stage.target, claim, READ)
    refusing = refuse_question(question, attachments=terminal.host.attachments)
    await asyncio.wait_for(refusing, 60)
    assert line.failure == "CONSOLES_FULL"


async def test_who_did_not_ask_to_type_and_does_is_told(terminal: Terminal):
    line = await terminal.opened(READ)
    line.type(b"x")
    await line.until(lambda: line.failure == "CONSOLE_READ_ONLY")
    assert bytes(line.content) == greeting(terminal)


async def test_a_console_of_nobody_is_not_ready(terminal: Terminal):
    assert await terminal.refusal(READ, Claim(terminal.wish.instance_id, 9)) == "CONSOLE_NOT_READY"


async def test_a_console_ends_when_its_guest_is_erased(terminal: Terminal):
    line = await terminal.opened(READ)
    terminal.host.command(wanted("a", IMAGE, present=False, generation=2))
    await line.until(lambda: line.failure == "CONSOLE_NOT_READY")


async def test_typing_to_a_guest_that_is_off_is_told_and_reading_goes_on(terminal: Terminal):
    reader, writer = await terminal.opened(READ), await terminal.opened(WRITE)
    stop = wanted("a", IMAGE, power=Power.OFF, generation=2)
    terminal.host.command(stop)
    await terminal.host.until_seen(stop, lambda o: o.power == Power.OFF)
    writer.type(b"x")
    await writer.until(lambda: writer.failure == "CONSOLE_NOT_READY")
    terminal.host.command(wanted("a", IMAGE, generation=3))
    await reader.until(lambda: bytes(reader.content) == 2 * greeting(terminal))


async def test_a_lost_line_goes_on_where_it_ended_without_losing_a_byte(terminal: Terminal):
    writer = await terminal.opened(WRITE)
    content = b""
    for round_ in range(4):
        writer.type(b"count 5000\n")
        line = await terminal.opened(ConsoleAsk(len(content), write=False, take_over=False))
        assert line.opened == len(content)
        await line.until(lambda line=line: len(line.content) > 100)
        if round_ == 2:
            await terminal.stage.ingress.stop()
            # The keyboard is free when the agent has seen the loss, not when the line is cut.
            await asyncio.wait_for(asyncio.gather(*terminal.works), 60)
            await terminal.stage.ingress.start(terminal.stage.target)
            writer = await terminal.opened(WRITE)
        else:
            line.hang_up()
        await asyncio.wait_for(line.over.wait(), 60)
        content += line.content
    whole = greeting(terminal) + 4 * (b"count 5000\n" + numbers(5000))
    line = await terminal.opened(ConsoleAsk(len(content), write=False, take_over=False))
    await line.until(lambda: len(content) + len(line.content) >= len(whole))
    assert content + line.content == whole


class LargeDriver(FakeDriver):
    """A fake host whose guests have written much already; counts what is read of it."""

    read_bytes = 0

    async def read_console_from(
        self, identity: Identity, offset: int | None, max_bytes: int
    ) -> ConsolePiece:
        start = LARGE_BYTES if offset is None else offset
        content = b"x" * min(max_bytes, LARGE_BYTES - start)
        self.read_bytes += len(content)
        return ConsolePiece(content, LARGE_BYTES)


async def test_for_a_reader_that_does_not_read_little_is_fetched_and_others_go_on(stage: Stage):
    folder = stage.folder / "fake" / "h1"
    driver = LargeDriver(folder, cloud_id=CLOUD_ID, capacity=CAPACITY, faults=Faults())
    async with terminal_of(stage, driver) as terminal:
        slow = terminal.open(READ)
        slow.reading.clear()
        await slow.until(lambda: slow.opened is not None)
        quick = await terminal.opened(READ)
        await quick.until(lambda: len(quick.content) == LARGE_BYTES)
        assert driver.read_bytes - LARGE_BYTES < LARGE_BYTES // 4
        slow.reading.set()
        await slow.until(lambda: len(slow.content) == LARGE_BYTES)
        assert driver.read_bytes == 2 * LARGE_BYTES


async def test_a_writer_that_does_not_read_is_told_when_it_is_put_off(stage: Stage):
    folder = stage.folder / "fake" / "h1"
    driver = LargeDriver(folder, cloud_id=CLOUD_ID, capacity=CAPACITY, faults=Faults())
    async with terminal_of(stage, driver) as terminal:
        slow = terminal.open(WRITE)
        slow.reading.clear()
        await slow.until(lambda: slow.opened is not None)
        await terminal.opened(TAKE_OVER)
        slow.reading.set()
        await slow.until(lambda: slow.failure == "CONSOLE_TAKEN_OVER")
