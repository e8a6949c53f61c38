"""Each "no" of a host's agent that needs no hypervisor, by its reason."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from stead.internal.v1 import compute_pb2

from services.compute.edges import ingress, messages
from services.compute.edges.drivers.libvirt.qemu_img import make_disk
from services.compute.flows.agent import Agent
from services.compute.flows.ports import (
    BeatAnswered,
    HostProfile,
    Saying,
    StepFailed,
    Telling,
    View,
)
from services.compute.flows.reconcile import Tools
from services.domain.errors import Broken, Unavailable
from services.domain.resources import Overcommit, Resources

CLOUD_ID = "0123456789ab"


class Driver:
    """What an agent says of its driver in a hello; `away` is why it cannot."""

    def __init__(self, away: Exception | None = None) -> None:
        self.away = away

    async def capacity(self) -> Resources:
        if self.away is not None:
            raise self.away
        return Resources(1, 1, 1)

    async def capabilities(self) -> Any:
        return None

    async def list_guests(self) -> list[Any]:
        return []


class Stream:
    """A control plane that answers the hello with one thing."""

    def __init__(self, telling: Telling) -> None:
        self.telling = telling

    async def send(self, saying: Saying) -> None:
        pass

    async def receive(self) -> Telling:
        return self.telling


def agent(driver: Driver | None = None) -> Agent:
    """The agent of host h."""
    profile = HostProfile("h", "m", "b", "0", Resources(0, 0, 0), Overcommit())
    tools: Any = Tools(driver or Driver(), None, None, 1)
    return Agent(profile, tools, cloud_id=CLOUD_ID, ingress=None, reconnect_s_max=1)


@pytest.mark.parametrize(
    ("telling", "reason"),
    [
        (BeatAnswered(1), "VIEW_MISSING"),
        (View("ffffffffffff", "h", 1, 1, ()), "VIEW_OF_ANOTHER"),
        (View(CLOUD_ID, "another", 1, 1, ()), "VIEW_OF_ANOTHER"),
    ],
)
async def test_only_the_hosts_own_view_is_taken(telling: Telling, reason: str) -> None:
    with pytest.raises(Broken) as refused:
        await agent()._hold(Stream(telling))
    assert refused.value.reason == reason


async def test_a_host_without_its_hypervisor_does_not_introduce_itself() -> None:
    with pytest.raises(Unavailable) as refused:
        await agent(Driver(ConnectionError("gone")))._hold(Stream(BeatAnswered(1)))
    assert refused.value.reason == "HYPERVISOR_AWAY"


class Call:
    """A stream call that reads one thing."""

    def __init__(self, read: Callable[[], Awaitable[Any]]) -> None:
        self.read = read


async def test_a_stream_that_the_control_plane_ended_is_gone() -> None:
    async def end() -> Any:
        return grpc.aio.EOF

    async def closed() -> Any:
        raise asyncio.InvalidStateError

    for read in (end, closed):
        with pytest.raises(Unavailable) as refused:
            await ingress._GrpcStateStream(Call(read)).receive()
        assert refused.value.reason == "STREAM_ENDED"


def test_what_a_newer_control_plane_says_is_not_guessed_at() -> None:
    with pytest.raises(Broken) as told:
        messages.telling_from_wire(compute_pb2.StreamInstanceStatesResponse())
    assert told.value.reason == "TELLING_UNKNOWN"
    with pytest.raises(Broken) as asked:
        messages.question_from_wire(compute_pb2.Question(ticket="t").SerializeToString())
    assert asked.value.reason == "QUESTION_UNKNOWN"


def test_a_disk_that_cannot_be_made_names_no_file_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        make_disk(tmp_path / "missing" / "disk.qcow2", 1, None)
    assert failed.value.reason == "DISK_NOT_MADE"
    assert str(tmp_path) not in failed.value.message
