"""stead.v1.ImageService: converts, calls a flow, converts back."""

from collections.abc import AsyncIterator
from typing import Any

from stead.v1 import image_pb2 as pb
from stead.v1 import image_pb2_grpc, operation_pb2

from services.api.edges.desk import Desk
from services.api.edges.public_messages import digest_of, fill_image, fill_operation
from services.api.flows.delete_image import delete_image
from services.api.flows.import_image import import_image, uploads
from services.api.flows.list_rows import ListAsk
from services.api.flows.ports import Accepted, ImageDescription, ImageStore
from services.domain.errors import Invalid
from services.domain.kinds import Architecture, ImageKind, ResourceKind


class ImageServicer(image_pb2_grpc.ImageServiceServicer):
    """The front desk for images."""

    def __init__(self, desk: Desk, store: ImageStore) -> None:
        self._desk = desk
        self._store = store
        self._uploads = uploads()

    async def ImportImage(
        self, request_iterator: AsyncIterator[pb.ImportImageRequest], context: Any
    ) -> pb.ImportImageResponse:
        """Takes in an image."""
        accepted = await import_image(
            self._desk.conductor,
            self._store,
            self._desk.caller,
            _parts(request_iterator),
            shares=self._uploads,
        )
        response = pb.ImportImageResponse()
        _fill(response.image, response.operation, accepted)
        return response

    async def GetImage(self, request: pb.GetImageRequest, context: Any) -> pb.GetImageResponse:
        """Shows one image."""
        response = pb.GetImageResponse()
        fill_image(response.image, await self._desk.row(ResourceKind.IMAGE, request.id))
        return response

    async def ListImages(
        self, request: pb.ListImagesRequest, context: Any
    ) -> pb.ListImagesResponse:
        """Lists the project's images and the public ones."""
        page = await self._desk.page(
            ListAsk(
                ResourceKind.IMAGE,
                request.page_size,
                request.page_token,
                request.filter,
                request.order_by,
            )
        )
        response = pb.ListImagesResponse(
            next_page_token=page.next_page_token, revision=page.revision
        )
        for row in page.rows:
            fill_image(response.images.add(), row)
        return response

    async def DeleteImage(
        self, request: pb.DeleteImageRequest, context: Any
    ) -> pb.DeleteImageResponse:
        """Removes an image."""
        accepted = await delete_image(
            self._desk.conductor, self._store, self._desk.caller, request, digest_of=digest_of
        )
        response = pb.DeleteImageResponse()
        _fill(response.image, response.operation, accepted)
        return response


def _fill(image: pb.Image, operation: operation_pb2.Operation, accepted: Accepted) -> None:
    fill_image(image, accepted.resource)
    if accepted.operation is not None:
        fill_operation(operation, accepted.operation)


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
        validate_only=described.validate_only,
    )
