"""Goal: the Python client's watch ends when it is told to, and when going on cannot help."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from stead.v1 import instance_pb2, instance_pb2_grpc

from stead_client import Door, Refusal, Watch, may_resume

CONFIG = Path(__file__).parents[2] / "docs" / "service-config.json"
PATIENCE_S = 60


class Quiet(instance_pb2_grpc.InstanceServiceServicer):
    """A cloud in which nothing happens: bookmarks for as long as somebody listens."""

    def WatchInstances(
        self, request: instance_pb2.WatchInstancesRequest, context: grpc.ServicerContext
    ) -> Iterator[instance_pb2.WatchInstancesResponse]:
        while context.is_active():
            yield instance_pb2.WatchInstancesResponse(bookmark=instance_pb2.Bookmark())
            time.sleep(0.05)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """The way into a quiet cloud."""
    server = grpc.server(ThreadPoolExecutor(4))
    instance_pb2_grpc.add_InstanceServiceServicer_to_server(Quiet(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    token = tmp_path / "token"
    token.write_text("token")
    yield Door(f"127.0.0.1:{port}", token, CONFIG)
    server.stop(None).wait()


class Doors(Sequence[Any]):
    """One door; the watch that looks at it is stopped at just that moment."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.watch: Watch | None = None

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: Any) -> Any:
        assert self.watch is not None
        self.watch.stop()
        return self._door


def outcome(watch: Watch) -> list[BaseException]:
    """What following raised once it has ended; fails the test if it goes on and on."""
    raised: list[BaseException] = []

    def follow() -> None:
        try:
            for _ in watch.follow():
                pass
        except BaseException as error:  # noqa: BLE001  # looked at by the test
            raised.append(error)

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    following.join(PATIENCE_S)
    assert not following.is_alive(), "the watch goes on"
    return raised


def test_a_watch_that_is_stopped_while_it_connects_ends(door: Door) -> None:
    doors = Doors(door)
    doors.watch = Watch(doors)
    assert outcome(doors.watch) == []


def test_a_watch_that_is_stopped_while_it_listens_ends(door: Door) -> None:
    watch = Watch([door])
    for _ in watch.follow():
        watch.stop()
    assert watch.reconnects == 0


@pytest.mark.parametrize("missing", ["token_file", "service_config", "ca"])
def test_a_watch_that_lacks_a_file_ends_and_names_it(door: Door, missing: str) -> None:
    files = {"token_file": door.token_file, "service_config": CONFIG, "ca": None}
    watch = Watch([Door(door.endpoint, **(files | {missing: Path("none")}))])  # type: ignore[arg-type]  # one of them is None
    (error,) = outcome(watch)
    assert isinstance(error, FileNotFoundError)


def test_only_what_the_road_says_is_a_reason_to_go_on() -> None:
    road = {code for code in grpc.StatusCode if may_resume(Refusal(code, ""))}
    names = {code.name for code in road}
    assert names == {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "CANCELLED", "UNKNOWN"}
    wrong = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "", "RESUME_TOKEN_INVALID")
    assert not may_resume(wrong)
    assert may_resume(Refusal(grpc.StatusCode.OUT_OF_RANGE, "", "REVISION_COMPACTED"))
