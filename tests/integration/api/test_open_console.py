"""A console from the user's stream through api to the guest: real parts but for the conductor."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from stead.internal.v1 import compute_pb2 as host_pb
from stead.v1 import instance_pb2 as pb

from services.api.flows.read_console import CONSOLES_MAX
from services.compute.edges.attachments import GrpcAttachments
from services.compute.edges.commands import Listener, listen
from services.compute.edges.drivers.fake import FakeDriver, Faults
from services.compute.edges.replicas import Replicas
from services.compute.flows.answer_question import answer_question, refuse_question
from services.compute.flows.attach_console import Consoles
from services.compute.flows.console_ports import ConsolePiece
from services.compute.flows.ports import GuestSpec, ImageFile
from services.compute.logic.guest import Claim, Guest, Identity
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources
from services.runtime import bus, subjects
from tests.integration.api.cloud import CLOUD_ID, ApiCloud, Refusal, User, new_id, refusal
from tests.integration.api.test_console import answering
from tests.integration.api.test_ingress import with_guest

EPOCH = 5
CAPACITY = Resources(64, 65536, 1024)
LARGE_BYTES = 32 << 20


class Session:
    """One open console, as a client has it."""

    def __init__(self, user: User) -> None:
        self.call = user.OpenConsole(None)
        self.offset = -1
        self.end_offset = -1
        self.content = b""

    async def open(self, instance_id: str, **how: Any) -> "Session":
        opening = pb.ConsoleOpening(id=instance_id, **how)
        await self.call.write(pb.OpenConsoleRequest(opening=opening))
        first = await self.call.read()
        if first is grpc.aio.EOF:
            raise AssertionError(await self.call.code())
        self.offset = self.end_offset = first.opened.offset
        return self

    async def type(self, content: bytes) -> None:
        await self.call.write(pb.OpenConsoleRequest(input=content))

    async def read(self) -> bool:
        """Reads one piece; whether there was one."""
        message = await asyncio.wait_for(self.call.read(), 60)
        if message is grpc.aio.EOF:
            return False
        self.content += message.output.content
        assert message.output.end_offset == self.end_offset + len(message.output.content)
        self.end_offset = message.output.end_offset
        return True

    async def until(self, end: bytes) -> None:
        while not self.content.endswith(end):
            assert await self.read(), "the console ended"

    async def refusal(self) -> Refusal:
        """Why it ended."""
        try:
            while await self.read():
                pass
        except grpc.aio.AioRpcError as error:
            return Refusal(error)
        raise AssertionError("it ended well")


async def refused(user: User, instance_id: str, **how: Any) -> Refusal:
    """Why a console is not opened."""
    session = Session(user)
    try:
        await session.open(instance_id, **how)
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
    raise AssertionError("it was opened")


class Host:
    """A host of fake guests that answers questions, as compute does."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.consoles = Consoles(driver, self.look)

    async def look(self, claim: Claim) -> Guest | None:
        guests = await self.driver.list_guests()
        return next((g for g in guests if g.identity.claim == claim), None)

    async def run_guest(self, instance_id: str, image: Path) -> Identity:
        image.write_bytes(b"an image")
        identity = Identity(CLOUD_ID, instance_id, EPOCH)
        spec = GuestSpec("a", "p", Resources(1, 64, 1), (), b"")
        file = ImageFile(image, ImageKind.RAW, Architecture.X86_64)
        await self.driver.prepare_guest(identity, spec, file)
        await self.driver.start_guest(identity)
        return identity


@asynccontextmanager
async def host_of_guest(
    cloud: ApiCloud, user: User, kind: type[FakeDriver] = FakeDriver
) -> AsyncIterator[tuple[Host, str]]:
    """A host with one guest, and the instance's id."""
    host_id = f"h-{new_id()}"
    instance_id = await with_guest(cloud, user, host_id, epoch=EPOCH)
    folder = cloud.folder / host_id
    host = Host(kind(folder, cloud_id=CLOUD_ID, capacity=CAPACITY, faults=Faults()))
    await host.run_guest(instance_id, folder / "image")
    replicas = Replicas([cloud.ingress_target])
    attachments = GrpcAttachments(replicas)
    answer = partial(answer_question, consoles=host.consoles, attachments=attachments)
    refuse = partial(refuse_question, attachments=attachments)
    heard = asyncio.Event()

    async def connect() -> bus.Bus:
        connected = await bus.connect(cloud.nats.url, name=host_id, credential=("stead", "secret"))

        async def hear(_: bytes) -> None:
            heard.set()

        await connected.subscribe(subjects.host_question(CLOUD_ID, host_id), hear)
        return connected

    listening = asyncio.ensure_future(
        listen(connect, CLOUD_ID, [Listener(host_id, lambda: None, lambda _: None, answer, refuse)])
    )
    probing = await bus.connect(cloud.nats.url, name="probe", credential=("stead", "secret"))
    while not heard.is_set():
        # Of no known shape: it only shows that the host listens.
        await probing.publish(subjects.host_question(CLOUD_ID, host_id), b"")
        await asyncio.sleep(0.01)
    await probing.close()
    try:
        yield host, instance_id
    finally:
        listening.cancel()
        await asyncio.wait({listening})
        await replicas.close()


def greeting(instance_id: str) -> bytes:
    return f"STEAD-GUEST name=a id={instance_id}\n".encode()


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(1, count + 1))


async def test_what_is_typed_reaches_the_guest_and_its_answer_the_user(cloud: ApiCloud) -> None:
    user = cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (_, instance_id):
        session = await Session(user).open(instance_id, offset=0, write=True)
        assert session.offset == 0
        await session.until(greeting(instance_id))
        await session.type(b"count 100\n")
        await session.until(numbers(100))
        assert session.content == greeting(instance_id) + b"count 100\n" + numbers(100)
        assert session.end_offset == len(session.content)
        late = await Session(user).open(instance_id)
        assert late.offset == session.end_offset
        await session.type(b"more\n")
        await late.until(b"more\n")
        assert late.content == b"more\n"


async def test_one_types_at_a_time_and_another_may_take_over(cloud: ApiCloud) -> None:
    user = cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (_, instance_id):
        first = await Session(user).open(instance_id, write=True)
        no = await refused(user, instance_id, write=True)
        assert (no.code, no.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CONSOLE_IN_USE")
        second = await Session(user).open(instance_id, write=True, take_over=True)
        off = await first.refusal()
        assert (off.code, off.reason) == (grpc.StatusCode.ABORTED, "CONSOLE_TAKEN_OVER")
        await second.type(b"mine\n")
        await second.until(b"mine\n")


async def test_a_user_that_goes_frees_the_keyboard(cloud: ApiCloud) -> None:
    user = cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (host, instance_id):
        session = await Session(user).open(instance_id, write=True)
        assert host.consoles._typing
        session.call.cancel()
        async with asyncio.timeout(60):
            while host.consoles._typing or host.consoles.followers._followed:  # noqa: ASYNC110  # a registry tells nobody
                await asyncio.sleep(0.01)
        await Session(user).open(instance_id, write=True)


async def test_who_says_no_more_goes_on_reading(cloud: ApiCloud) -> None:
    user = cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (host, instance_id):
        session = await Session(user).open(instance_id, offset=0)
        await session.call.done_writing()
        await session.until(greeting(instance_id))
        host.driver.type_into(Claim(instance_id, EPOCH), b"later\n")
        await session.until(b"later\n")


@pytest.mark.parametrize(
    ("first", "field"),
    [
        (pb.OpenConsoleRequest(input=b"x"), "opening"),
        (pb.OpenConsoleRequest(), "part"),
        (pb.OpenConsoleRequest(opening=pb.ConsoleOpening(id="no")), "opening.id"),
        (None, "opening"),
    ],
)
async def test_a_console_that_is_not_opened_properly_is_invalid(
    cloud: ApiCloud, first: pb.OpenConsoleRequest | None, field: str
) -> None:
    session = Session(cloud.user(new_id(), "member"))
    if first is None:
        await session.call.done_writing()
    else:
        await session.call.write(first)
    no = await session.refusal()
    assert (no.code, no.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert no.fields == [field]


async def test_what_may_not_be_said_on_an_open_console_ends_it(cloud: ApiCloud) -> None:
    user = cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (_, instance_id):
        reader = await Session(user).open(instance_id)
        await reader.type(b"x")
        no = await reader.refusal()
        assert (no.code, no.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CONSOLE_READ_ONLY")
        writer = await Session(user).open(instance_id, write=True)
        await writer.call.write(pb.OpenConsoleRequest(opening=pb.ConsoleOpening(id=instance_id)))
        assert (await writer.refusal()).fields == ["opening"]
        writer = await Session(user).open(instance_id, write=True, take_over=True)
        await writer.type(b"x" * 65537)
        assert (await writer.refusal()).fields == ["input"]


async def test_bytes_that_the_host_does_not_keep_are_out_of_range(cloud: ApiCloud) -> None:
    user = cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (_, instance_id):
        no = await refused(user, instance_id, offset=1_000_000)
    assert (no.code, no.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CONSOLE_OFFSET_GONE")


async def test_without_a_guest_or_without_the_right_there_is_no_console(cloud: ApiCloud) -> None:
    user, stranger = cloud.user(new_id(), "member"), cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (host, instance_id):
        no = await refused(stranger, instance_id)
        assert (no.code, no.reason) == (grpc.StatusCode.NOT_FOUND, "INSTANCE_NOT_FOUND")
        assert (await refused(user, new_id())).reason == "INSTANCE_NOT_FOUND"
        await host.driver.stop_guest(Identity(CLOUD_ID, instance_id, EPOCH))
        await host.driver.erase_guest(Identity(CLOUD_ID, instance_id, EPOCH))
        no = await refused(user, instance_id)
        assert (no.code, no.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CONSOLE_NOT_READY")


async def test_a_host_that_does_not_answer_is_unreachable_in_time(cloud: ApiCloud) -> None:
    user = cloud.user(new_id(), "member")
    instance_id = await with_guest(cloud, user, f"h-{new_id()}")
    no = await asyncio.wait_for(refused(user, instance_id), 60)
    assert (no.code, no.reason) == (grpc.StatusCode.UNAVAILABLE, "HOST_UNREACHABLE")


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (host_pb.AttachRequest(chunk=b"before it is open"),),
        (host_pb.AttachRequest(console_opened=-1),),
        (host_pb.AttachRequest(console_log_end=host_pb.ConsoleLogEnd()),),
        (host_pb.AttachRequest(failure=host_pb.Failure(reason="HOME_MADE", message="?")),),
    ],
)
async def test_a_host_that_breaks_the_order_is_unreachable(
    cloud: ApiCloud, parts: tuple[host_pb.AttachRequest, ...]
) -> None:
    user, host_id = cloud.user(new_id(), "member"), f"h-{new_id()}"
    instance_id = await with_guest(cloud, user, host_id)
    async with answering(cloud, host_id, *parts):
        assert (await refused(user, instance_id)).reason == "HOST_UNREACHABLE"


async def test_one_project_cannot_take_all_consoles(cloud: ApiCloud) -> None:
    user, other = cloud.user(new_id(), "member"), cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (_, instance_id):
        sessions = [await Session(user).open(instance_id) for _ in range(CONSOLES_MAX)]
        no = await refused(user, instance_id)
        assert (no.code, no.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_MANY_CONSOLES",
        )
        assert no.retry_s
        async with host_of_guest(cloud, other) as (_, of_other):
            await Session(other).open(of_other)
        sessions[0].call.cancel()
        async with asyncio.timeout(60):
            while True:
                # It has to hear of the end first.
                try:
                    await Session(user).open(instance_id)
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)


async def test_a_host_with_all_its_consoles_open_says_so(cloud: ApiCloud) -> None:
    user, host_id = cloud.user(new_id(), "member"), f"h-{new_id()}"
    instance_id = await with_guest(cloud, user, host_id)
    full = host_pb.Failure(reason="CONSOLES_FULL", message="?")
    async with answering(cloud, host_id, host_pb.AttachRequest(failure=full)):
        noes = [
            await refused(user, instance_id),
            await refusal(user.GetConsoleOutput(pb.GetConsoleOutputRequest(id=instance_id))),
        ]
    for no in noes:
        assert (no.code, no.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LANE_FULL")
        assert no.retry_s


@pytest.mark.parametrize(
    "part",
    [
        host_pb.AttachRequest(console_opened=7),
        host_pb.AttachRequest(ticket="again"),
        host_pb.AttachRequest(chunk=b"x" * 65537),
    ],
)
async def test_a_host_that_breaks_the_order_of_an_open_console_ends_it(
    cloud: ApiCloud, part: host_pb.AttachRequest
) -> None:
    user, host_id = cloud.user(new_id(), "member"), f"h-{new_id()}"
    instance_id = await with_guest(cloud, user, host_id)
    opened = host_pb.AttachRequest(console_opened=5)
    parts = (opened, host_pb.AttachRequest(chunk=b"good"), part, host_pb.AttachRequest(chunk=b"x"))
    async with answering(cloud, host_id, *parts):
        session = await Session(user).open(instance_id)
        assert (await session.refusal()).reason == "HOST_UNREACHABLE"
    assert (session.offset, session.content, session.end_offset) == (5, b"good", 9)


async def test_many_read_one_console_at_once(cloud: ApiCloud) -> None:
    user = cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (host, instance_id):
        sessions = [await Session(user).open(instance_id, offset=0) for _ in range(40)]
        host.driver.type_into(Claim(instance_id, EPOCH), b"to all\n")
        await asyncio.gather(*(session.until(b"to all\n") for session in sessions))
        assert len(host.consoles.followers._followed) == 1


async def test_a_host_that_goes_leaves_a_console_that_can_be_opened_again(cloud: ApiCloud) -> None:
    user = cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user) as (_, instance_id):
        session = await Session(user).open(instance_id, offset=0)
        await session.until(greeting(instance_id))
    no = await session.refusal()
    assert (no.code, no.reason) == (grpc.StatusCode.UNAVAILABLE, "HOST_UNREACHABLE")


async def test_a_console_ends_with_its_token(cloud: ApiCloud) -> None:
    project = new_id()
    user = cloud.user(project, "member")
    async with host_of_guest(cloud, user) as (_, instance_id):
        brief = cloud.user(project, "member", exp=int(time.time()) + 3)
        no = await (await Session(brief).open(instance_id)).refusal()
    assert (no.code, no.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


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


async def test_for_a_user_that_does_not_read_little_is_fetched_and_nothing_is_lost(
    cloud: ApiCloud,
) -> None:
    user = cloud.user(new_id(), "member")
    async with host_of_guest(cloud, user, LargeDriver) as (host, instance_id):
        assert isinstance(host.driver, LargeDriver)
        slow = await Session(user).open(instance_id, offset=0)
        quick = await Session(user).open(instance_id, offset=0)
        while quick.end_offset < LARGE_BYTES:
            quick.content = b""
            assert await quick.read()
        assert host.driver.read_bytes - LARGE_BYTES < LARGE_BYTES // 2
        while slow.end_offset < LARGE_BYTES:
            slow.content = b""
            assert await slow.read()
        assert host.driver.read_bytes == 2 * LARGE_BYTES


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_console_goes_on_at_a_restarted_api_without_losing_a_byte(
    own_cloud: ApiCloud, number: signal.Signals
) -> None:
    cloud = own_cloud
    user = cloud.user("console", "member")
    async with host_of_guest(cloud, user) as (host, instance_id):
        content = b""
        for _ in range(3):
            host.driver.type_into(Claim(instance_id, EPOCH), b"count 20000\n")
            session = await Session(user).open(instance_id, offset=len(content), write=True)
            assert session.offset == len(content)
            await session.read()
            ending = asyncio.ensure_future(cloud.end_api(number))
            no = await session.refusal()
            assert no.code is grpc.StatusCode.UNAVAILABLE
            if number is signal.SIGTERM:
                assert no.reason == "API_STOPPING"
            content += session.content
            await ending
            await cloud.start_api()
            await cloud.until_ready()
        session = await Session(user).open(instance_id, offset=len(content))
        whole = greeting(instance_id) + 3 * (b"count 20000\n" + numbers(20000))
        while len(content) + len(session.content) < len(whole):
            assert await session.read()
        assert content + session.content == whole
