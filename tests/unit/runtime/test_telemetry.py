"""Every call has a trace, one line, and a place in the tallies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2

from services.domain.errors import Conflict
from services.domain.trace import Trace
from services.runtime import log, rpc, telemetry
from tests.logged import Lines, logged

EMPTY = empty_pb2.Empty()
METHODS = ("Answer", "Refuse", "Break", "Hang", "Count", "Change")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SERVICE = "stead.test.Service"


class AnyMethod(grpc.GenericRpcHandler):
    """Takes every call of a method that is made up, and refuses it."""

    def service(self, handler_call_details: Any) -> Any:
        if "MadeUp" not in handler_call_details.method:
            return None

        async def refuse(request: Any, context: Any) -> Any:
            raise Conflict("ETAG_MISMATCH", "there is no such method")

        return grpc.unary_unary_rpc_method_handler(refuse)


def describe() -> None:
    """Makes the test's service part of the contract, once."""
    pool = descriptor_pool.Default()
    with contextlib.suppress(KeyError):
        pool.FindServiceByName(SERVICE)
        return
    file = descriptor_pb2.FileDescriptorProto(name="stead/test.proto", package="stead.test")
    file.dependency.append(empty_pb2.DESCRIPTOR.name)
    service = file.service.add(name="Service")
    for name in METHODS:
        method = service.method.add(name=name)
        method.input_type = method.output_type = ".google.protobuf.Empty"
        if name == "Change":
            method.options.idempotency_level = descriptor_pb2.MethodOptions.IDEMPOTENT
    pool.Add(file)


class Behaviour:
    """What the methods of the test's service do; remembers the trace that each saw."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.hangs = asyncio.Event()

    async def answer(self, request: Any, context: Any) -> Any:
        self.traces.append(telemetry.current_trace())
        return request

    async def refuse(self, request: Any, context: Any) -> Any:
        raise Conflict("ETAG_MISMATCH", "it moved on")

    async def break_down(self, request: Any, context: Any) -> Any:
        raise ValueError("a bug")

    async def hang(self, request: Any, context: Any) -> Any:
        self.hangs.set()
        await asyncio.sleep(3600)

    async def count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.traces.append(telemetry.current_trace())
        for _ in range(3):
            yield EMPTY
        raise Conflict("ETAG_MISMATCH", "it moved on")


@contextlib.asynccontextmanager
async def served(behaviour: Behaviour) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server with the behaviour."""
    wire = {
        "request_deserializer": empty_pb2.Empty.FromString,
        "response_serializer": empty_pb2.Empty.SerializeToString,
    }
    methods = {
        "Answer": grpc.unary_unary_rpc_method_handler(behaviour.answer, **wire),
        "Refuse": grpc.unary_unary_rpc_method_handler(behaviour.refuse, **wire),
        "Break": grpc.unary_unary_rpc_method_handler(behaviour.break_down, **wire),
        "Hang": grpc.unary_unary_rpc_method_handler(behaviour.hang, **wire),
        "Count": grpc.unary_stream_rpc_method_handler(behaviour.count, **wire),
        "Change": grpc.unary_unary_rpc_method_handler(behaviour.answer, **wire),
    }
    describe()
    server = rpc.server()
    server.add_generic_rpc_handlers((AnyMethod(),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


def unary(channel: grpc.aio.Channel, method: str, *metadata: tuple[str, str]) -> Any:
    """A call of a method that answers once."""
    ask = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=empty_pb2.Empty.SerializeToString,
        response_deserializer=empty_pb2.Empty.FromString,
    )
    return ask(EMPTY, metadata=metadata, timeout=60)


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The log lines so far, as objects."""
    with logged() as read:
        yield read


def tally(method: str) -> telemetry.MethodTally:
    """What was counted of a method of the test's service."""
    name = f"{SERVICE}/{method}"
    return telemetry.methods().get(name) or telemetry.MethodTally(name, is_loud=False)


async def ended(method: str, code: str, before: int) -> None:
    """Waits until one more call of the method has ended so."""
    async with asyncio.timeout(60):
        while tally(method).codes.get(code, 0) <= before:  # noqa: ASYNC110  # counters wake nobody
            await asyncio.sleep(0.01)


async def test_a_request_id_comes_back_and_is_the_trace_of_the_work() -> None:
    behaviour = Behaviour()
    async with served(behaviour) as channel:
        call = unary(channel, "Answer", ("x-request-id", "abc-1"), ("traceparent", PARENT))
        await call
        trailing = dict(await call.trailing_metadata())
    assert trailing["x-request-id"] == "abc-1"
    assert behaviour.traces == [Trace("abc-1", PARENT)]


async def test_a_call_without_a_usable_request_id_gets_one_of_its_own() -> None:
    behaviour = Behaviour()
    async with served(behaviour) as channel:
        for sent in ((), (("x-request-id", "a" * 200),), (("x-request-id", "has blank"),)):
            call = unary(channel, "Answer", *sent)
            await call
            made = dict(await call.trailing_metadata())["x-request-id"]
            assert len(made) == 32
            assert behaviour.traces[-1] == Trace(made, "")
    assert len({trace.correlation_id for trace in behaviour.traces}) == 3


async def test_a_traceparent_that_is_none_goes_nowhere() -> None:
    behaviour = Behaviour()
    async with served(behaviour) as channel:
        await unary(channel, "Answer", ("traceparent", PARENT.replace("4bf9", "XXXX")))
    assert behaviour.traces[0].traceparent == ""


async def test_a_refused_call_names_its_request_id_too() -> None:
    async with served(Behaviour()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary(channel, "Refuse", ("x-request-id", "abc-2"))
    assert dict(refused.value.trailing_metadata())["x-request-id"] == "abc-2"
    assert rpc.error_of(refused.value).reason == "ETAG_MISMATCH"


async def test_a_stream_names_its_request_id_before_its_first_message() -> None:
    behaviour = Behaviour()
    async with served(behaviour) as channel:
        before = tally("Count").messages
        ask = channel.unary_stream(
            f"/{SERVICE}/Count",
            request_serializer=empty_pb2.Empty.SerializeToString,
            response_deserializer=empty_pb2.Empty.FromString,
        )
        call = ask(EMPTY, metadata=(("x-request-id", "abc-3"),), timeout=60)
        assert dict(await call.initial_metadata())["x-request-id"] == "abc-3"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in call:
                pass
    assert dict(refused.value.trailing_metadata())["x-request-id"] == "abc-3"
    assert behaviour.traces == [Trace("abc-3", "")]
    assert tally("Count").messages - before == 3


async def test_calls_do_not_share_their_traces() -> None:
    behaviour = Behaviour()
    async with served(behaviour) as channel:
        ids = [f"id-{number}" for number in range(40)]
        await asyncio.gather(*(unary(channel, "Answer", ("x-request-id", i)) for i in ids))
    assert sorted(trace.correlation_id for trace in behaviour.traces) == sorted(ids)
    assert telemetry.current_trace() == Trace()


async def test_calls_are_counted_by_method_and_code() -> None:
    async with served(Behaviour()) as channel:
        before = {m: dict(tally(m).codes) for m in ("Answer", "Refuse", "Break")}
        await unary(channel, "Answer")
        for method in ("Refuse", "Break"):
            with pytest.raises(grpc.aio.AioRpcError):
                await unary(channel, method)
        await ended("Answer", "OK", before["Answer"].get("OK", 0))
        await ended("Refuse", "ABORTED", before["Refuse"].get("ABORTED", 0))
        await ended("Break", "INTERNAL", before["Break"].get("INTERNAL", 0))
        assert tally("Answer").seconds.count == sum(tally("Answer").codes.values())
        assert tally("Refuse").open == 0


async def test_a_call_whose_caller_has_gone_is_cancelled_and_no_fault() -> None:
    behaviour = Behaviour()
    async with served(behaviour) as channel:
        before = tally("Hang").codes.get("CANCELLED", 0)
        call = unary(channel, "Hang")
        await asyncio.wait_for(behaviour.hangs.wait(), 60)
        assert tally("Hang").open == 1
        call.cancel()
        await ended("Hang", "CANCELLED", before)
        assert tally("Hang").open == 0


async def test_a_refused_call_is_one_line_with_its_reason_and_a_good_one_none(lines: Lines) -> None:
    async with served(Behaviour()) as channel:
        await unary(channel, "Answer", ("x-request-id", "abc-4"))
        with pytest.raises(grpc.aio.AioRpcError):
            await unary(channel, "Refuse", ("x-request-id", "abc-5"), ("traceparent", PARENT))
    said = [line for line in lines() if line["event"] == "call ended"]
    assert [line["correlation_id"] for line in said] == ["abc-5"]
    assert said[0]["method"] == f"{SERVICE}/Refuse"
    assert (said[0]["code"], said[0]["reason"]) == ("ABORTED", "ETAG_MISMATCH")
    assert (said[0]["level"], said[0]["service"]) == ("info", "test")
    assert said[0]["traceparent"] == PARENT
    assert said[0]["duration_ms"] > 0


async def test_a_bug_is_an_error_line_under_the_callers_request_id(lines: Lines) -> None:
    async with served(Behaviour()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary(channel, "Break", ("x-request-id", "abc-6"))
    assert rpc.error_of(refused.value).reason == "BUG"
    said = lines()
    assert {line["correlation_id"] for line in said} == {"abc-6"}
    assert {line["level"] for line in said} == {"error"}
    assert "a bug" in next(line["exception"] for line in said if "exception" in line)


async def test_work_is_logged_under_the_trace_that_it_belongs_to(lines: Lines) -> None:
    with telemetry.traced(Trace("abc-7", PARENT)):
        log.logger().info("inside")
    log.logger().info("outside")
    inside, outside = lines()
    assert (inside["correlation_id"], inside["traceparent"]) == ("abc-7", PARENT)
    assert "correlation_id" not in outside


async def test_a_call_that_changes_something_is_a_line_by_the_contracts_own_word(
    lines: Lines,
) -> None:
    async with served(Behaviour()) as channel:
        await unary(channel, "Change", ("x-request-id", "abc-8"))
        await unary(channel, "Answer", ("x-request-id", "abc-9"))
    said = [line for line in lines() if line["event"] == "call ended"]
    assert [(line["method"], line["code"]) for line in said] == [(f"{SERVICE}/Change", "OK")]
    assert said[0]["correlation_id"] == "abc-8"


async def test_made_up_methods_share_one_place_in_the_tallies() -> None:
    async with served(Behaviour()) as channel:
        await unary(channel, "Answer")
        before = set(telemetry.methods())
        for number in range(20):
            with pytest.raises(grpc.aio.AioRpcError):
                await unary(channel, f"MadeUp{number}")
    assert set(telemetry.methods()) - before <= {telemetry.UNKNOWN}
