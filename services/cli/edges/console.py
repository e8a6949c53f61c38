"""A guest's console through the cloud's public door: one line at a time, typing kept in order."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from stead.v1 import instance_pb2, instance_pb2_grpc

from services.cli.edges.api import Api
from services.cli.flows.talk import Heard, Opening

INPUT_BYTES_MAX = 65536


class Console:
    """One instance's console; what is typed waits here while there is no line."""

    def __init__(self, api: Api, instance_id: str) -> None:
        self._api = api
        self._instance_id = instance_id
        self._typed: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._call: Any = None
        self._left = False
        self._is_open = False
        self._last_s = time.monotonic()

    def line(self, opening: Opening) -> Iterator[Heard]:
        """What the guest writes, from the opening on. Raises Refusal."""
        first = instance_pb2.ConsoleOpening(
            id=self._instance_id, write=opening.write, take_over=opening.take_over
        )
        if opening.offset is not None:
            first.offset = opening.offset
        over = threading.Event()
        stub = instance_pb2_grpc.InstanceServiceStub(self._api.channel)
        call = self._api.started(stub.OpenConsole, self._requests(first, over))
        with self._changed:
            self._call = call
            if self._left:
                call.cancel()
        try:
            for answer in self._api.heard(call):
                self._note_open()
                yield _heard(answer)
        finally:
            over.set()
            call.cancel()
            with self._changed:
                self._is_open = False
                self._changed.notify_all()

    def type(self, content: bytes) -> None:
        """Hands bytes to the guest, in order."""
        self._last_s = time.monotonic()
        with self._changed:
            for begin in range(0, len(content), INPUT_BYTES_MAX):
                self._typed.append(content[begin : begin + INPUT_BYTES_MAX])
            self._changed.notify_all()

    def leave(self) -> None:
        """Ends the line for good."""
        with self._changed:
            self._left = True
            if self._call is not None:
                self._call.cancel()

    def has_left(self) -> bool:
        """Whether the caller wanted the end."""
        return self._left

    def quiet_s(self) -> float:
        """For how long nothing was written or typed on an open line. Nothing counts while typing
        still waits, or while there is no line: the guest's answer may come with the next one.
        """
        with self._changed:
            if self._typed or not self._is_open:
                return 0.0
            return time.monotonic() - self._last_s

    def _note_open(self) -> None:
        self._last_s = time.monotonic()
        if not self._is_open:
            with self._changed:
                self._is_open = True
                self._changed.notify_all()

    def _requests(
        self, first: instance_pb2.ConsoleOpening, over: threading.Event
    ) -> Iterator[instance_pb2.OpenConsoleRequest]:
        yield instance_pb2.OpenConsoleRequest(opening=first)
        while True:
            with self._changed:
                # A line that is refused takes nothing: it waits for the one that is opened.
                self._changed.wait_for(
                    lambda: over.is_set() or (self._is_open and bool(self._typed))
                )
                if over.is_set():
                    return
                content = self._typed.popleft()
            yield instance_pb2.OpenConsoleRequest(input=content)


def _heard(answer: instance_pb2.OpenConsoleResponse) -> Heard:
    if answer.WhichOneof("part") == "opened":
        return Heard(b"", answer.opened.offset)
    return Heard(answer.output.content, answer.output.end_offset)
