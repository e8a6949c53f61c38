"""stead.v1.ImageService: converts, calls a flow, converts back."""

from collections.abc import AsyncIterator
from typing import Any

from stead.v1 import image_pb2 as pb
from stead.v1 import image_pb2_grpc

from services.api.edges import public_messages
from services.api.edges.authentication import caller
from services.api.flows.delete_image import delete_image
from services.api.flows.get_row import get_row
from services.api.flows.import_image import import_image
from services.api.flows.list_rows import ListAsk, list_rows
from services.api.flows.ports import Conductor, ImageDescription, ImageStore
from services.domain.errors import Invalid
from services.domain.kinds import Architecture, ImageKind, ResourceKind


class ImageServicer(image_pb2_grpc.ImageServiceServicer):
    """The front desk for images."""

    def __init__(self, conductor: Conductor, *, page_key: bytes, store: ImageStore) -> None:
        self._conductor = conductor
        self._page_key = page_key
        self._store = store

    async def ImportImage(
        self, request_iterator: AsyncIterator[pb.ImportImageRequest], context: Any
    ) -> pb.ImportImageResponse:
        """Takes in an image."""
        accepted = await import_image(
            self._conductor, self._store, caller(), _parts(request_iterator)
        )
        return pb.ImportImageResponse(
            image=public_messages.image(accepted.resource),
            operation=public_messages.operation(accepted.operation),
        )

    async def GetImage(self, request: pb.GetImageRequest, context: Any) -> pb.GetImageResponse:
        """Shows one image."""
        row = await get_row(self._conductor, caller(), ResourceKind.IMAGE, request.id)
        return pb.GetImageResponse(image=public_messages.image(row))

    async def ListImages(
        self, request: pb.ListImagesRequest, context: Any
    ) -> pb.ListImagesResponse:
        """Lists the project's images and the public ones."""
        ask = ListAsk(ResourceKind.IMAGE, request.page_size, request.page_token, request.filter)
        rows, token = await list_rows(self._conductor, caller(), ask, page_key=self._page_key)
        return pb.ListImagesResponse(
            images=[public_messages.image(row) for row in rows], next_page_token=token
        )

    async def DeleteImage(
        self, request: pb.DeleteImageRequest, context: Any
    ) -> pb.DeleteImageResponse:
        """Removes an image."""
        accepted = await delete_image(
            self._conductor,
            self._store,
            caller(),
            request,
            digest_of=public_messages.digest_of,
        )
        return pb.DeleteImageResponse(
            image=public_messages.image(accepted.resource),
            operation=public_messages.operation(accepted.operation),
        )


async def _parts(
    requests: AsyncIterator[pb.ImportImageRequest],
) -> AsyncIterator[ImageDescription | bytes]:
    async for request in requests:
        match request.WhichOneof("part"):
            case "description":
                yield _description(request.description)
            case "chunk":
                yield request.chunk
            case _:
                raise Invalid("INVALID_FIELD", "a message of an upload is empty", field="part")


def _description(described: pb.ImageDescription) -> ImageDescription:
    return ImageDescription(
        request_id=described.request_id,
        name=described.name,
        kind=ImageKind(described.kind),
        architecture=Architecture(described.architecture),
        digest=described.digest,
        size_bytes=described.size_bytes,
        public=described.visibility == pb.IMAGE_VISIBILITY_PUBLIC,
    )
