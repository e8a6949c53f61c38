"""Finding things by id or name, and reading whole lists page by page."""

from collections.abc import Callable, Iterable
from typing import Any

from stead.v1 import (
    flavor_pb2,
    flavor_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
    key_pair_pb2,
    key_pair_pb2_grpc,
)

from services.cli.edges.api import Api, as_json
from services.cli.logic.conditions import condition, id_in, is_name
from services.cli.logic.refusal import Refusal
from services.domain.errors import CloudError, NotFound

PAGE_SIZE = 500
BEGINNINGS_MAX = 3


def whole_list(api: Api, method: Callable[..., Any], request: Any, field: str) -> list[Any]:
    """Every resource of every page, all true to one revision. Begins anew where the pages of one
    revision outlived what the cloud keeps of it. Raises Refusal.
    """
    request.page_size = PAGE_SIZE
    for beginning in range(1, BEGINNINGS_MAX + 1):
        request.page_token = ""
        try:
            return list(_pages(api, method, request, field))
        except Refusal as refusal:
            if refusal.reason != "REVISION_COMPACTED" or beginning == BEGINNINGS_MAX:
                raise
    return []


def _pages(api: Api, method: Callable[..., Any], request: Any, field: str) -> Iterable[Any]:
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
    return [as_json(resource) for resource in whole_list(api, method, request, field)]


def instance_id(api: Api, word: str) -> str:
    """The id of an instance of the caller's project. Raises NotFound."""
    stub = instance_pb2_grpc.InstanceServiceStub(api.channel)
    return _only(
        word,
        lambda by_name: whole_list(
            api,
            stub.ListInstances,
            instance_pb2.ListInstancesRequest(filter=by_name),
            "instances",
        ),
        missing=NotFound("INSTANCE_NOT_FOUND", f'there is no instance "{word}"'),
    )


def flavor_id(api: Api, word: str, *, missing: type[CloudError] = NotFound) -> str:
    """The id of a flavor. Raises `missing`."""
    stub = flavor_pb2_grpc.FlavorServiceStub(api.channel)
    return _only(
        word,
        lambda by_name: whole_list(
            api, stub.ListFlavors, flavor_pb2.ListFlavorsRequest(filter=by_name), "flavors"
        ),
        missing=_missing(missing, "flavor", word),
    )


def image_id(api: Api, word: str, *, missing: type[CloudError] = NotFound) -> str:
    """The id of an image that the caller can use, the project's own before public ones. Raises
    `missing`.
    """
    stub = image_pb2_grpc.ImageServiceStub(api.channel)
    return _only(
        word,
        lambda by_name: sorted(
            whole_list(api, stub.ListImages, image_pb2.ListImagesRequest(filter=by_name), "images"),
            key=lambda image: bool(image.visibility == image_pb2.IMAGE_VISIBILITY_PUBLIC),
        ),
        missing=_missing(missing, "image", word),
    )


def key_pair_id(api: Api, word: str, *, missing: type[CloudError] = NotFound) -> str:
    """The id of a key pair of the caller's project. Raises `missing`."""
    stub = key_pair_pb2_grpc.KeyPairServiceStub(api.channel)
    field = "" if missing is NotFound else "key_pair_ids"
    return _only(
        word,
        lambda by_name: whole_list(
            api, stub.ListKeyPairs, key_pair_pb2.ListKeyPairsRequest(filter=by_name), "key_pairs"
        ),
        missing=missing("KEY_PAIR_NOT_FOUND", f'there is no key pair "{word}"', field=field),
    )


def _missing(kind: type[CloudError], noun: str, word: str) -> CloudError:
    # As a part of another wish it is that wish which is wrong, as api says of an unknown id.
    field = "" if kind is NotFound else f"{noun}_id"
    return kind(f"{noun.upper()}_NOT_FOUND", f'there is no {noun} "{word}"', field=field)


def _only(word: str, find: Callable[[str], Iterable[Any]], *, missing: CloudError) -> str:
    if given := id_in(word):
        return given
    # A filter holds at most 1,024 bytes.
    if not is_name(word):
        raise missing
    for found in find(condition("name", word)):
        return str(found.id)
    raise missing
