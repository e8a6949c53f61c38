"""`stead image`: import, list, show, delete."""

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from stead.v1 import image_pb2, image_pb2_grpc, instance_pb2

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected, new_request_id
from services.cli.edges.commands import completing
from services.cli.edges.commands.examples import taught
from services.cli.edges.commands.flags import (
    WAIT_S,
    DryRunFlag,
    FilterFlag,
    OrderFlag,
    OutputFlag,
    TimeoutFlag,
    around,
    group,
)
from services.cli.edges.commands.instance_create import KeyFlag, create_one
from services.cli.edges.commands.wishes import Manner, carry_out, tell_dry_run
from services.cli.edges.image_file import guess_kind
from services.cli.edges.progress import Bar
from services.cli.edges.terminal import Output, show_many, show_one
from services.domain.errors import Invalid
from services.domain.kinds import Architecture, ImageKind

app = group(
    "What instances start from: qcow2 or raw disks, or a tar of kernel, initrd and cmdline."
)
ImageWord = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Name or id.", autocompletion=completing.images)
]
_VISIBILITY = {
    True: image_pb2.IMAGE_VISIBILITY_PUBLIC,
    False: image_pb2.IMAGE_VISIBILITY_PRIVATE,
}
CHUNK_BYTES = 512 * 1024
_KINDS = ", ".join(kind.name.lower() for kind in ImageKind)
_ARCHITECTURES = ", ".join(kind.name.lower() for kind in Architecture)


def _stub(api: Api) -> image_pb2_grpc.ImageServiceStub:
    return image_pb2_grpc.ImageServiceStub(api.channel)


@app.command("import", epilog=taught("image import"))
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
    boot: Annotated[
        str,
        typer.Option(metavar="NAME", help="Then make an instance of it and wait until it runs."),
    ] = "",
    flavor: Annotated[
        str,
        typer.Option(
            metavar="FLAVOR", help="With --boot: its size.", autocompletion=completing.flavors
        ),
    ] = "",
    key: KeyFlag = None,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Takes in an image. Nothing is kept unless every byte arrived."""
    if bool(boot) != bool(flavor):
        words = "--boot and --flavor belong together"
        raise Invalid("INVALID_FIELD", words, field="--flavor" if boot else "--boot")
    description = image_pb2.ImageDescription(
        validate_only=dry_run,
        request_id=new_request_id(),
        name=name,
        kind=image_pb2.ImageKind.ValueType(_kind(file, kind)),
        architecture=image_pb2.Architecture.ValueType(_architecture(arch)),
        visibility=_VISIBILITY[public],
    )
    description.digest, description.size_bytes = _digest(file)
    with connected(around()) as api:
        new = instance_pb2.NewInstance(name=boot)
        if boot:
            # A mistake is told before the bytes travel.
            new.flavor_id = named.flavor_id(api, flavor, missing=Invalid)
            new.key_pair_ids.extend(named.key_pair_id(api, k, missing=Invalid) for k in key or [])
        with Bar("sending", description.size_bytes) as bar:
            answer = api.upload(_stub(api).ImportImage, lambda: _parts(description, file, bar))
        if dry_run:
            tell_dry_run(output)
        if boot and not dry_run:
            new.image_id = answer.image.id
            manner = Manner(output, wait=True, timeout_s=timeout)
            show_one(create_one(api, new, manner), output)
        else:
            show_one(as_json(answer.image), output)


@app.command("list")
def list_all(
    conditions: FilterFlag = "", order_by: OrderFlag = "", output: OutputFlag = Output.TABLE
) -> None:
    """Lists the project's images and the public ones.

    Conditions name id, name, digest, kind, architecture or visibility.
    """
    with connected(around()) as api:
        request = image_pb2.ListImagesRequest(filter=conditions, order_by=order_by)
        rows = named.all_as_json(api, _stub(api).ListImages, request, "images")
    show_many("image", rows, output)


@app.command("show")
def show(image: ImageWord, output: OutputFlag = Output.TABLE) -> None:
    """Shows one image."""
    with connected(around()) as api:
        request = image_pb2.GetImageRequest(id=named.image_id(api, image))
        show_one(as_json(api.call(_stub(api).GetImage, request).image), output)


@app.command("delete")
def delete(
    image: ImageWord, dry_run: DryRunFlag = False, output: OutputFlag = Output.TABLE
) -> None:
    """Removes an image; instances made from it keep running."""
    with connected(around()) as api:
        request = image_pb2.DeleteImageRequest(id=named.image_id(api, image))
        manner = Manner(output, dry_run)
        show_one(carry_out(api, _stub(api).DeleteImage, request, what="", manner=manner), output)


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
    if description.validate_only:
        return
    sent_bytes = 0
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield image_pb2.ImportImageRequest(chunk=chunk)
            sent_bytes += len(chunk)
            bar.at(sent_bytes)
