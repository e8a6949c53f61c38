"""What the command makes of a door that goes silent, refuses for a while, or has many pages.

The door is scripted: a real one does these things rarely, and never when a test asks for them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from stead.v1 import instance_pb2, instance_pb2_grpc

from services.cli.edges.api import Api
from services.cli.edges.commands.watching import events
from services.cli.edges.console import Console
from services.cli.flows.follow import Pace
from services.cli.flows.talk import Heard, Opening, talk

STEAD = Path(sys.executable).parent / "stead"
PATIENCE_S = 60
SILENCE_S = 1.0
INSTANCE = "01a2048d-a56b-7140-86a6-53fad6ce83b7"
BUSY = (grpc.StatusCode.FAILED_PRECONDITION, "CONSOLE_IN_USE")
LOST = (grpc.StatusCode.UNAVAILABLE, "CONSOLE_LOST")


@dataclass
class Line:
    """What a console does: refuses, or opens, hears as much, and ends."""

    refusal: tuple[grpc.StatusCode, str] | None = None
    hears_bytes: int = 0
    end: tuple[grpc.StatusCode, str] | None = None


@dataclass
class Door:
    """Plays its script, and writes down what it heard."""

    names: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    openings: list[instance_pb2.ConsoleOpening] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def list_instances(
        self, request: instance_pb2.ListInstancesRequest, _: grpc.ServicerContext
    ) -> instance_pb2.ListInstancesResponse:
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        more = str(end) if end < len(self.names) else ""
        found = [instance_pb2.Instance(name=name) for name in self.names[begin:end]]
        return instance_pb2.ListInstancesResponse(instances=found, next_page_token=more)

    def watch_instances(
        self, request: instance_pb2.WatchInstancesRequest, _: grpc.ServicerContext
    ) -> Iterator[instance_pb2.WatchInstancesResponse]:
        self.tokens.append(request.resume_token)
        yield instance_pb2.WatchInstancesResponse(resume_token=str(len(self.tokens)))
        self.over.wait(PATIENCE_S)

    def open_console(
        self, requests: Iterator[instance_pb2.OpenConsoleRequest], context: grpc.ServicerContext
    ) -> Iterator[instance_pb2.OpenConsoleResponse]:
        self.openings.append(next(requests).opening)
        line = self.lines.pop(0)
        if line.refusal is not None:
            # Long enough for whoever types into a line that is not open.
            self.over.wait(0.2)
            _refuse(context, line.refusal)
        opened = instance_pb2.ConsoleOpened(offset=7)
        yield instance_pb2.OpenConsoleResponse(opened=opened)
        taken = b""
        while len(taken) < line.hears_bytes:
            taken += next(requests).input
        self.heard.append(taken)
        if line.end is not None:
            _refuse(context, line.end)


def _refuse(context: grpc.ServicerContext, why: tuple[grpc.StatusCode, str]) -> None:
    from google.protobuf import any_pb2
    from google.rpc import error_details_pb2, status_pb2
    from grpc_status import rpc_status

    code, reason = why
    cause = any_pb2.Any()
    cause.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="stead"))
    status = status_pb2.Status(code=code.value[0], message=reason, details=[cause])
    context.abort_with_status(rpc_status.to_status(status))


@contextlib.contextmanager
def opened(door: Door) -> Iterator[int]:
    """The port on which it stands."""
    options = (("grpc.http2.min_recv_ping_interval_without_data_ms", 100),)
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ListInstances": grpc.unary_unary_rpc_method_handler(
            door.list_instances,
            instance_pb2.ListInstancesRequest.FromString,
            instance_pb2.ListInstancesResponse.SerializeToString,
        ),
        "WatchInstances": grpc.unary_stream_rpc_method_handler(
            door.watch_instances,
            instance_pb2.WatchInstancesRequest.FromString,
            instance_pb2.WatchInstancesResponse.SerializeToString,
        ),
        "OpenConsole": grpc.stream_stream_rpc_method_handler(
            door.open_console,
            instance_pb2.OpenConsoleRequest.FromString,
            instance_pb2.OpenConsoleResponse.SerializeToString,
        ),
    }
    handler = grpc.method_handlers_generic_handler("stead.v1.InstanceService", methods)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        door.over.set()
        server.stop(0).wait(PATIENCE_S)


class Road:
    """Carries bytes between two ports until it is cut; then nothing comes, and nothing closes."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._cuts: list[threading.Event] = []
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._welcome, daemon=True).start()

    def cut(self) -> None:
        """The connections there are go silent; new ones are carried."""
        for cut in self._cuts:
            cut.set()

    def close(self) -> None:
        self._listener.close()
        for one in self._sockets:
            one.close()

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                cut = threading.Event()
                self._cuts.append(cut)
                self._sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(*ends, cut), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                if not cut.is_set():
                    sink.sendall(part)


@pytest.fixture
def door() -> Door:
    return Door()


def test_a_watch_on_a_connection_that_went_silent_is_opened_again(door: Door) -> None:
    with opened(door) as port, contextlib.closing(Road(port)) as road:
        api = Api(f"127.0.0.1:{road.port}", "a.b.c", patience_s=5, silence_s=SILENCE_S)
        stub = instance_pb2_grpc.InstanceServiceStub(api.channel)
        seen: list[str] = []
        second = threading.Event()

        def watch() -> None:
            request = instance_pb2.WatchInstancesRequest()
            for event in events(api, stub.WatchInstances, request):
                seen.append(event.resume_token)
                if len(seen) == 1:
                    road.cut()
                else:
                    second.set()
                    return

        threading.Thread(target=watch, daemon=True).start()
        came = second.wait(PATIENCE_S)
        api.close()
    assert came, "nobody noticed that the door was gone"
    assert (seen, door.tokens) == (["1", "2"], ["", "1"])


def _talk(
    door: Door, typed: bytes, *, take_over: bool = False, rest: Callable[[Console], None]
) -> None:
    """One console, typed into before it is opened, through all of the door's lines."""
    with opened(door) as port:
        api = Api(f"127.0.0.1:{port}", "a.b.c", patience_s=5)
        console = Console(api, INSTANCE)

        def show(_: Heard) -> None:
            if len(door.openings) == 1:
                console.type(typed)

        talk(
            console.line,
            Opening(None, write=True, take_over=take_over),
            show=show,
            has_left=lambda: not door.lines,
            pace=Pace(lambda _: rest(console), lambda _: None),
        )
        api.close()


def test_what_is_typed_while_the_line_is_refused_is_heard_by_the_next_one(door: Door) -> None:
    door.lines = [Line(end=LOST), Line(BUSY), Line(BUSY), Line(hears_bytes=9)]
    rests: list[int] = []

    def rest(console: Console) -> None:
        rests.append(1)
        if len(rests) == 1:
            console.type(b"first, ")
            console.type(b"us")

    _talk(door, b"", rest=rest)
    assert door.heard[-1] == b"first, us"


def test_nothing_is_quiet_while_there_is_no_line(door: Door) -> None:
    door.lines = [Line(hears_bytes=5, end=LOST), Line(BUSY), Line()]
    quiet_s: list[float] = []
    _talk(door, b"typed", rest=lambda console: quiet_s.append(console.quiet_s()))
    assert door.heard[0] == b"typed"
    assert quiet_s == [0.0, 0.0]


def test_the_keyboard_is_taken_over_once_and_never_again_unasked(door: Door) -> None:
    door.lines = [Line(end=LOST), Line(BUSY), Line()]
    _talk(door, b"", take_over=True, rest=lambda _: None)
    assert [opening.take_over for opening in door.openings] == [True, False, False]


def _offered(port: int, line: str, tmp_path: Path) -> list[str]:
    token = tmp_path / "token"
    token.write_text("a.b.c")
    variables = {k: v for k, v in os.environ.items() if not k.startswith("STEAD_")}
    ended = subprocess.run(
        [STEAD],
        env={
            **variables,
            "STEAD_HOME": str(tmp_path / "home"),
            "STEAD_ENDPOINT": f"127.0.0.1:{port}",
            "STEAD_TOKEN_FILE": str(token),
            "_STEAD_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return ended.stdout.split()


def test_what_stands_on_a_later_page_is_offered_too(door: Door, tmp_path: Path) -> None:
    door.names = [f"node-{number}" for number in range(1200)] + ["web"]
    with opened(door) as port:
        assert _offered(port, "stead instance stop we", tmp_path) == ["web"]
        # A person looks at no more; they type another letter.
        assert len(_offered(port, "stead instance stop no", tmp_path)) == 200
