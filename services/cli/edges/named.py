"""Finding things by id or name, and reading whole lists page by page."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from stead.v1 import (
    flavor_pb2,
    flavor_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
)

from services.cli.edges.api import Api, as_json
from services.domain.errors import CloudError, NotFound

PAGE_SIZE = 500
_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def pages(api: Api, method: Callable[..., Any], request: Any, field: str) -> Iterator[Any]:
    """Every resource of every page of a list."""
    request.page_size = PAGE_SIZE
    while True:
        answer = api.call(method, request)
        yield from getattr(answer, field)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def all_as_json(
    api: Api, method: Callable[..., Any], request: Any, field: str
) -> list[dict[str, Any]]:
    """The whole list in its JSON form."""
    return [as_json(resource) for resource in pages(api, method, request, field)]


def condition(field: str, value: str) -> str:
    """One condition of a filter, the value quoted."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{field} = "{quoted}"'


def instance_id(api: Api, word: str) -> str:
    """The id of an instance of the caller's project. Raises NotFound."""
    stub = instance_pb2_grpc.InstanceServiceStub(api.channel)
    request = instance_pb2.ListInstancesRequest(filter=condition("name", word))
    return _only(
        word,
        lambda: pages(api, stub.ListInstances, request, "instances"),
        missing=NotFound("INSTANCE_NOT_FOUND", f'there is no instance "{word}"'),
    )


def flavor_id(api: Api, word: str, *, missing: type[CloudError] = NotFound) -> str:
    """The id of a flavor. Raises `missing`."""
    stub = flavor_pb2_grpc.FlavorServiceStub(api.channel)
    request = flavor_pb2.ListFlavorsRequest(filter=condition("name", word))
    return _only(
        word,
        lambda: pages(api, stub.ListFlavors, request, "flavors"),
        missing=_missing(missing, "flavor", word),
    )


def image_id(api: Api, word: str, *, missing: type[CloudError] = NotFound) -> str:
    """The id of an image that the caller can use, the project's own before public ones. Raises
    `missing`.
    """
    stub = image_pb2_grpc.ImageServiceStub(api.channel)
    request = image_pb2.ListImagesRequest(filter=condition("name", word))
    return _only(
        word,
        lambda: iter(
            sorted(
                pages(api, stub.ListImages, request, "images"),
                key=lambda image: bool(image.visibility == image_pb2.IMAGE_VISIBILITY_PUBLIC),
            )
        ),
        missing=_missing(missing, "image", word),
    )


def _missing(kind: type[CloudError], noun: str, word: str) -> CloudError:
    # As a part of another wish it is that wish which is wrong, as api says of an unknown id.
    field = "" if kind is NotFound else f"{noun}_id"
    return kind(f"{noun.upper()}_NOT_FOUND", f'there is no {noun} "{word}"', field=field)


def _only(word: str, find: Callable[[], Iterator[Any]], *, missing: CloudError) -> str:
    if _UUID.match(word.lower()):
        return word.lower()
    # What cannot be a name needs no question; a filter holds at most 1,024 bytes.
    if not word or not word.isprintable() or len(word) > 63:
        raise missing
    for found in find():
        return str(found.id)
    raise missing
