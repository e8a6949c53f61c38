"""`stead image`: import, list, show, delete."""

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from stead.v1 import image_pb2, image_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected, new_request_id
from services.cli.edges.commands.flags import OutputFlag, around, group
from services.cli.edges.image_file import guess_kind
from services.cli.edges.progress import Bar
from services.cli.edges.terminal import Output, show_many, show_one
from services.domain.errors import Invalid
from services.domain.kinds import Architecture, ImageKind

app = group(
    "What instances start from: qcow2 or raw disks, or a tar of kernel, initrd and cmdline."
)
ImageWord = Annotated[str, typer.Argument(metavar="IMAGE", help="Name or id.")]
_VISIBILITY = {
    True: image_pb2.IMAGE_VISIBILITY_PUBLIC,
    False: image_pb2.IMAGE_VISIBILITY_PRIVATE,
}
CHUNK_BYTES = 512 * 1024
_KINDS = ", ".join(kind.name.lower() for kind in ImageKind)
_ARCHITECTURES = ", ".join(kind.name.lower() for kind in Architecture)


def _stub(api: Api) -> image_pb2_grpc.ImageServiceStub:
    return image_pb2_grpc.ImageServiceStub(api.channel)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The image.")],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Its name, unique among the project's images.")
    ],
    kind: Annotated[
        str, typer.Option(metavar="KIND", help=f"{_KINDS}; found by looking if left out.")
    ] = "",
    arch: Annotated[
        str, typer.Option(metavar="ARCH", help=f"{_ARCHITECTURES}; this machine's if left out.")
    ] = "",
    public: Annotated[
        bool, typer.Option("--public", help="For every project; cloud admins only.")
    ] = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Takes in an image. Nothing is kept unless every byte arrived.

    Example: stead image import disk.qcow2 --name debian
    """
    description = image_pb2.ImageDescription(
        request_id=new_request_id(),
        name=name,
        kind=image_pb2.ImageKind.ValueType(_kind(file, kind)),
        architecture=image_pb2.Architecture.ValueType(_architecture(arch)),
        visibility=_VISIBILITY[public],
    )
    description.digest, description.size_bytes = _digest(file)
    with connected(around()) as api:
        with Bar("sending", description.size_bytes) as bar:
            answer = api.upload(_stub(api).ImportImage, lambda: _parts(description, file, bar))
        show_one(as_json(answer.image), output)


@app.command("list")
def list_all(output: OutputFlag = Output.TABLE) -> None:
    """Lists the project's images and the public ones."""
    with connected(around()) as api:
        request = image_pb2.ListImagesRequest()
        rows = named.all_as_json(api, _stub(api).ListImages, request, "images")
    show_many("image", rows, output)


@app.command("show")
def show(image: ImageWord, output: OutputFlag = Output.TABLE) -> None:
    """Shows one image."""
    with connected(around()) as api:
        request = image_pb2.GetImageRequest(id=named.image_id(api, image))
        show_one(as_json(api.call(_stub(api).GetImage, request).image), output)


@app.command("delete")
def delete(image: ImageWord, output: OutputFlag = Output.TABLE) -> None:
    """Removes an image; instances made from it keep running."""
    with connected(around()) as api:
        request = image_pb2.DeleteImageRequest(
            request_id=new_request_id(), id=named.image_id(api, image)
        )
        show_one(as_json(api.call(_stub(api).DeleteImage, request).image), output)


def _kind(file: Path, word: str) -> ImageKind:
    if not word:
        try:
            return guess_kind(file)
        except OSError as error:
            raise Invalid("FILE_UNREADABLE", f"{file}: {error.strerror}") from error
    try:
        return ImageKind[word.upper()]
    except KeyError as error:
        raise Invalid(
            "INVALID_FIELD", f'no kind "{word}"; there are {_KINDS}', field="--kind"
        ) from error


def _architecture(word: str) -> Architecture:
    found = {"amd64": "x86_64", "arm64": "aarch64"}.get(word.lower(), word) or platform.machine()
    try:
        return Architecture[found.upper()]
    except KeyError as error:
        raise Invalid(
            "INVALID_FIELD",
            f'no architecture "{found}"; there are {_ARCHITECTURES}',
            field="--arch",
        ) from error


def _digest(file: Path) -> tuple[str, int]:
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with file.open("rb") as source, Bar("reading", file.stat().st_size) as bar:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                size_bytes += len(chunk)
                bar.at(size_bytes)
    except OSError as error:
        raise Invalid("FILE_UNREADABLE", f"{file}: {error.strerror}") from error
    if not size_bytes:
        raise Invalid("IMAGE_REJECTED", f"{file} is empty")
    return digest.hexdigest(), size_bytes


def _parts(
    description: image_pb2.ImageDescription, file: Path, bar: Bar
) -> Iterator[image_pb2.ImportImageRequest]:
    yield image_pb2.ImportImageRequest(description=description)
    sent_bytes = 0
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield image_pb2.ImportImageRequest(chunk=chunk)
            sent_bytes += len(chunk)
            bar.at(sent_bytes)
