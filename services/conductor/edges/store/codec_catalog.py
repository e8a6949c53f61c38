"""Nouns without a life of their own as bytes: flavors, images, key pairs.

Owns their mapping to stead.v1 messages; what is not in the bytes is said in `codec`.
"""

from stead.v1 import flavor_pb2, image_pb2, key_pair_pb2

from services.conductor.edges.store.codec import seconds, timestamp
from services.conductor.logic.rows import FlavorRow, ImageReference, ImageRow, KeyPairRow
from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import Resources


def flavor_body(row: FlavorRow) -> bytes:
    """The public message of a flavor, less what the commit decides."""
    return flavor_pb2.Flavor(
        id=row.id,
        name=row.name,
        vcpus=row.resources.vcpus,
        memory_mib=row.resources.memory_mib,
        disk_gib=row.resources.disk_gib,
        create_time=timestamp(row.created_at_s),
    ).SerializeToString()


def flavor_from(body: bytes, version: int, revision: int) -> FlavorRow:
    """A living flavor from its stored form."""
    message = flavor_pb2.Flavor.FromString(body)
    return FlavorRow(
        id=message.id,
        name=message.name,
        resources=Resources(message.vcpus, message.memory_mib, message.disk_gib),
        created_at_s=seconds(message.create_time),
        version=version,
        revision=revision,
    )


def image_body(row: ImageRow) -> bytes:
    """The public message of an image, less what the commit decides."""
    states, visibilities = image_pb2.ImageState, image_pb2.ImageVisibility
    return image_pb2.Image(
        id=row.id,
        name=row.name,
        project_id=row.project_id,
        state=states.IMAGE_STATE_DELETED if row.deleted else states.IMAGE_STATE_READY,
        kind=row.reference.kind.value,  # type: ignore[arg-type]  # numbers are those of the contract
        architecture=row.reference.architecture.value,  # type: ignore[arg-type]  # as above
        digest=row.reference.digest,
        size_bytes=row.reference.size_bytes,
        min_disk_gib=row.min_disk_gib,
        visibility=(
            visibilities.IMAGE_VISIBILITY_PUBLIC
            if row.public
            else visibilities.IMAGE_VISIBILITY_PRIVATE
        ),
        create_time=timestamp(row.created_at_s),
    ).SerializeToString()


def image_from(body: bytes, version: int, revision: int) -> ImageRow:
    """A living image from its stored form."""
    message = image_pb2.Image.FromString(body)
    return ImageRow(
        id=message.id,
        project_id=message.project_id,
        name=message.name,
        reference=ImageReference(
            message.digest,
            message.size_bytes,
            ImageKind(message.kind),
            Architecture(message.architecture),
        ),
        min_disk_gib=message.min_disk_gib,
        public=message.visibility == image_pb2.IMAGE_VISIBILITY_PUBLIC,
        created_at_s=seconds(message.create_time),
        version=version,
        revision=revision,
    )


def key_pair_body(row: KeyPairRow) -> bytes:
    """The public message of a key pair, less what the commit decides."""
    return key_pair_pb2.KeyPair(
        id=row.id,
        name=row.name,
        project_id=row.project_id,
        public_key=row.public_key,
        fingerprint=row.fingerprint,
        algorithm=row.algorithm,
        create_time=timestamp(row.created_at_s),
    ).SerializeToString()


def key_pair_from(body: bytes, version: int, revision: int) -> KeyPairRow:
    """A living key pair from its stored form."""
    message = key_pair_pb2.KeyPair.FromString(body)
    return KeyPairRow(
        id=message.id,
        project_id=message.project_id,
        name=message.name,
        public_key=message.public_key,
        fingerprint=message.fingerprint,
        algorithm=message.algorithm,
        created_at_s=seconds(message.create_time),
        version=version,
        revision=revision,
    )
