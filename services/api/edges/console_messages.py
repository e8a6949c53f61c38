"""Between what a console's user and host say to each other and the messages of the contract."""

from collections.abc import AsyncIterator

from stead.v1 import instance_pb2 as pb

from services.api.flows.open_console import Opening, Said, Told
from services.api.flows.ports import ConsoleOpening
from services.api.flows.read_console import LineOpened
from services.domain.errors import Invalid


async def said(requests: AsyncIterator[pb.OpenConsoleRequest]) -> AsyncIterator[Said]:
    """What a user says."""
    async for request in requests:
        match request.WhichOneof("part"):
            case "opening":
                yield _opening(request.opening)
            case "input":
                yield request.input
            case _:
                raise Invalid("INVALID_FIELD", "nothing known was said", field="part")


def told(word: Told) -> pb.OpenConsoleResponse:
    """What a user is told."""
    if isinstance(word, LineOpened):
        return pb.OpenConsoleResponse(opened=pb.ConsoleOpened(offset=word.offset))
    output = pb.ConsoleOutput(content=word.content, end_offset=word.end_offset)
    return pb.OpenConsoleResponse(output=output)


def _opening(opening: pb.ConsoleOpening) -> Opening:
    offset = opening.offset if opening.HasField("offset") else None
    return Opening(
        opening.id, ConsoleOpening(offset, write=opening.write, take_over=opening.take_over)
    )
