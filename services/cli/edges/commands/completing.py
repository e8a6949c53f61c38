"""What the shell offers after Tab: names from the cloud, and nothing where it does not answer."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from services.cli.logic.surroundings import surroundings

PATIENCE_S = 1.5
OFFERS_MAX = 200
# Anything else would need the shell's own quotes.
_PLAIN = re.compile(r"[\w.@:+/-]+")


def instances(incomplete: str) -> list[str]:
    """Names of the project's living instances."""
    from stead.v1 import instance_pb2, instance_pb2_grpc

    return _offers(
        lambda channel: instance_pb2_grpc.InstanceServiceStub(channel).ListInstances,
        instance_pb2.ListInstancesRequest(page_size=OFFERS_MAX),
        "instances",
        incomplete,
    )


def flavors(incomplete: str) -> list[str]:
    """Names of flavors."""
    from stead.v1 import flavor_pb2, flavor_pb2_grpc

    return _offers(
        lambda channel: flavor_pb2_grpc.FlavorServiceStub(channel).ListFlavors,
        flavor_pb2.ListFlavorsRequest(page_size=OFFERS_MAX),
        "flavors",
        incomplete,
    )


def images(incomplete: str) -> list[str]:
    """Names of images."""
    from stead.v1 import image_pb2, image_pb2_grpc

    return _offers(
        lambda channel: image_pb2_grpc.ImageServiceStub(channel).ListImages,
        image_pb2.ListImagesRequest(page_size=OFFERS_MAX),
        "images",
        incomplete,
    )


def key_pairs(incomplete: str) -> list[str]:
    """Names of key pairs."""
    from stead.v1 import key_pair_pb2, key_pair_pb2_grpc

    return _offers(
        lambda channel: key_pair_pb2_grpc.KeyPairServiceStub(channel).ListKeyPairs,
        key_pair_pb2.ListKeyPairsRequest(page_size=OFFERS_MAX),
        "key_pairs",
        incomplete,
    )


def hosts(incomplete: str) -> list[str]:
    """Ids of hosts."""
    from stead.v1 import host_pb2, host_pb2_grpc

    return _offers(
        lambda channel: host_pb2_grpc.HostServiceStub(channel).ListHosts,
        host_pb2.ListHostsRequest(page_size=OFFERS_MAX),
        "hosts",
        incomplete,
    )


def projects(incomplete: str) -> list[str]:
    """Ids of projects."""
    from stead.v1 import project_pb2, project_pb2_grpc

    return _offers(
        lambda channel: project_pb2_grpc.ProjectServiceStub(channel).ListProjects,
        project_pb2.ListProjectsRequest(page_size=OFFERS_MAX),
        "projects",
        incomplete,
    )


def operations(incomplete: str) -> list[str]:
    """Ids of operations that are under way."""
    from stead.v1 import operation_pb2, operation_pb2_grpc

    return _offers(
        lambda channel: operation_pb2_grpc.OperationServiceStub(channel).ListOperations,
        operation_pb2.ListOperationsRequest(page_size=OFFERS_MAX, filter='state = "RUNNING"'),
        "operations",
        incomplete,
    )


def _offers(
    method: Callable[[Any], Callable[..., Any]], request: Any, field: str, incomplete: str
) -> list[str]:
    from services.cli.edges.api import connected
    from services.cli.logic.refusal import Refusal
    from services.domain.errors import CloudError

    here = surroundings(os.environ, folder=Path.cwd())
    try:
        with connected(here, patience_s=0) as api:
            answer = api.call(method(api.channel), request, timeout_s=PATIENCE_S)
    except (CloudError, Refusal, OSError):
        # A Tab is no question that could be answered with an error.
        return []
    return [name for name in _names(getattr(answer, field)) if name.startswith(incomplete)]


def _names(found: Any) -> Iterator[str]:
    for resource in found:
        name = str(getattr(resource, "name", ""))
        yield name if _PLAIN.fullmatch(name) else str(resource.id)
