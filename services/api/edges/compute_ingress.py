"""stead.internal.v1.ComputeIngressService, the only door of computes: converts, calls a flow,
converts back.

A host is the least trusted part: its words are cut to a bound and stripped of control characters
here.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from stead.internal.v1 import compute_pb2 as pb
from stead.internal.v1 import compute_pb2_grpc

from services.api.edges.host_records import HostRecords
from services.api.flows import host_words as words
from services.api.flows.attend_host import History, attend_host
from services.api.flows.fetch_blob import BlobAsk, fetch_blob
from services.api.flows.ports import ImageStore
from services.api.flows.read_console import (
    AttachPart,
    ConsoleEnd,
    HostFailure,
    LineOpened,
    Tickets,
    attach,
)
from services.domain.errors import Invalid
from services.runtime.clock import Clock

REASON_MAX = 63
MESSAGE_MAX = 1000
PROGRESS_MAX = 200


class ComputeIngress(compute_pb2_grpc.ComputeIngressServiceServicer):
    """The door."""

    def __init__(
        self,
        records: HostRecords,
        history: History,
        *,
        store: ImageStore,
        tickets: Tickets,
        clock: Clock,
    ) -> None:
        self._records = records
        self._history = history
        self._store = store
        self._tickets = tickets
        self._clock = clock

    async def StreamInstanceStates(
        self, request_iterator: AsyncIterator[pb.StreamInstanceStatesRequest], context: Any
    ) -> AsyncGenerator[pb.StreamInstanceStatesResponse, None]:
        """Carries what one host says."""
        sayings = _sayings(request_iterator)
        attended = attend_host(self._records, self._history, self._clock, sayings)
        async with aclosing(attended) as tellings:
            async for telling in tellings:
                yield _told(telling)

    async def FetchBlob(
        self, request: pb.FetchBlobRequest, context: Any
    ) -> AsyncGenerator[pb.FetchBlobResponse, None]:
        """Reads an image."""
        ask = BlobAsk(request.host_id, request.incarnation, request.digest, request.offset)
        async with aclosing(fetch_blob(self._records, self._store, ask)) as pieces:
            async for piece in pieces:
                yield pb.FetchBlobResponse(chunk=piece)

    async def Attach(
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Any
    ) -> AsyncGenerator[pb.AttachResponse, None]:
        """Answers a question."""
        async with aclosing(attach(self._tickets, _attached(request_iterator))) as typing:
            async for typed in typing:
                yield pb.AttachResponse(input=typed)


async def _sayings(
    requests: AsyncIterator[pb.StreamInstanceStatesRequest],
) -> AsyncIterator[words.Saying]:
    async for request in requests:
        match request.WhichOneof("saying"):
            case "hello":
                yield words.HelloSaid(request.hello)
            case "observations":
                for observation in request.observations.observations:
                    _tame(observation)
                yield words.ObservationsSaid(request.observations.observations)
            case "beat":
                yield words.BeatSaid(request.beat.bus_silent)
            case "view_wanted":
                yield words.ViewWantedSaid()
            case "inventory":
                yield words.InventorySaid(request.inventory)
            case _:
                raise Invalid("INVALID_FIELD", "a host said nothing known", field="saying")


def _tame(observation: pb.Observation) -> None:
    observation.progress = _plain(observation.progress, PROGRESS_MAX)
    if observation.HasField("failure"):
        observation.failure.reason = _plain(observation.failure.reason, REASON_MAX)
        observation.failure.message = _plain(observation.failure.message, MESSAGE_MAX)


def _plain(text: str, length_max: int) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:length_max])


def _told(telling: words.Telling) -> pb.StreamInstanceStatesResponse:
    match telling:
        case words.ViewTold():
            return pb.StreamInstanceStatesResponse(view=telling.view)  # type: ignore[arg-type]  # what Greet gave
        case words.Acknowledged():
            results = [
                pb.ObservationResult(sequence=sequence, outcome=outcome.value)  # type: ignore[arg-type]  # same numbers
                for sequence, outcome in telling.outcomes
            ]
            return pb.StreamInstanceStatesResponse(
                acknowledgements=pb.Acknowledgements(results=results)
            )
        case words.BeatAnswered():
            return pb.StreamInstanceStatesResponse(
                beat_answer=pb.BeatAnswer(wanted_revision=telling.wanted_revision)
            )
        case words.SupersededTold():
            return pb.StreamInstanceStatesResponse(superseded=pb.Superseded())


async def _attached(requests: AsyncIterator[pb.AttachRequest]) -> AsyncIterator[AttachPart]:
    async for request in requests:
        match request.WhichOneof("part"):
            case "ticket":
                yield request.ticket
            case "chunk":
                yield request.chunk
            case "console_opened":
                yield LineOpened(request.console_opened)
            case "console_log_end":
                yield ConsoleEnd(request.console_log_end.start_offset)
            case "failure":
                yield HostFailure(
                    _plain(request.failure.reason, REASON_MAX),
                    _plain(request.failure.message, MESSAGE_MAX),
                )
            case _:
                raise Invalid("INVALID_FIELD", "a host attached nothing known", field="part")
