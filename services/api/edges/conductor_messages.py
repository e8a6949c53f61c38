"""The conductor's messages from and to what flows speak."""

from stead.internal.v1 import conductor_pb2, resource_pb2
from stead.v1 import flavor_pb2, host_pb2, image_pb2, instance_pb2

from services.api.flows.ports import Accepted, Changes, ImageDescription, Wish
from services.api.logic.caller import Caller
from services.api.logic.row import Ledger, Page, PageQuery, Row
from services.domain.kinds import ResourceKind
from services.domain.resources import Resources


def row_from(resource: resource_pb2.Resource) -> Row:
    """A row."""
    return Row(
        kind=ResourceKind(resource.kind),
        id=resource.id,
        project_id=resource.project_id,
        version=resource.version,
        revision=resource.revision,
        epoch=resource.epoch,
        body=resource.body,
        deleted=resource.deleted,
        public=resource.public,
        ledger=_ledger_from(resource.ledger) if resource.HasField("ledger") else None,
    )


def _ledger_from(ledger: resource_pb2.HostLedger) -> Ledger:
    return Ledger(_resources_from(ledger.target), _resources_from(ledger.used), ledger.claims)


def _resources_from(amounts: host_pb2.Resources) -> Resources:
    return Resources(amounts.vcpus, amounts.memory_mib, amounts.disk_gib)


def accepted_from(result: conductor_pb2.MutationResult) -> Accepted:
    """What became of an accepted wish."""
    return Accepted(row_from(result.resource), row_from(result.operation))


def page_from(result: conductor_pb2.QueryResult) -> Page:
    """The answer to one question."""
    return Page(tuple(row_from(r) for r in result.resources), result.revision, result.more)


def changes_from(batch: resource_pb2.FeedBatch) -> Changes:
    """A stretch of the feed."""
    return Changes([row_from(r) for r in batch.changes], batch.head_revision, batch.history_id)


def caller_to(caller: Caller) -> conductor_pb2.Caller:
    """On whose behalf a call is made."""
    return conductor_pb2.Caller(
        subject=caller.subject, project_id=caller.project_id, cloud_admin=caller.cloud_admin
    )


def query_to(caller: Caller, query: PageQuery) -> conductor_pb2.Query:
    """A question for a page."""
    return conductor_pb2.Query(
        caller=caller_to(caller),
        kind=query.kind.value,  # type: ignore[arg-type]  # same numbers
        project_id=query.project_id,
        after_id=query.after_id,
        limit=query.limit,
        where=query.where,
    )


def mutation_to(caller: Caller, wish: Wish) -> conductor_pb2.Mutation:
    """A wish with its caller."""
    mutation = conductor_pb2.Mutation(caller=caller_to(caller))
    match wish:
        case instance_pb2.CreateInstanceRequest():
            mutation.create_instance.CopyFrom(wish)
        case instance_pb2.DeleteInstanceRequest():
            mutation.delete_instance.CopyFrom(wish)
        case flavor_pb2.CreateFlavorRequest():
            mutation.create_flavor.CopyFrom(wish)
        case flavor_pb2.DeleteFlavorRequest():
            mutation.delete_flavor.CopyFrom(wish)
        case image_pb2.DeleteImageRequest():
            mutation.delete_image.CopyFrom(wish)
        case _:
            raise TypeError(f"not a wish: {type(wish).__name__}")
    return mutation


def register_to(
    caller: Caller, description: ImageDescription, min_disk_gib: int
) -> conductor_pb2.Mutation:
    """An image that is in the store, with its caller."""
    visibility = (
        image_pb2.IMAGE_VISIBILITY_PUBLIC
        if description.public
        else image_pb2.IMAGE_VISIBILITY_PRIVATE
    )
    described = image_pb2.ImageDescription(
        request_id=description.request_id,
        name=description.name,
        kind=description.kind.value,  # type: ignore[arg-type]  # same numbers
        architecture=description.architecture.value,  # type: ignore[arg-type]  # same numbers
        digest=description.digest,
        size_bytes=description.size_bytes,
        visibility=visibility,
    )
    return conductor_pb2.Mutation(
        caller=caller_to(caller),
        register_image=conductor_pb2.RegisterImage(
            description=described, min_disk_gib=min_disk_gib
        ),
    )
