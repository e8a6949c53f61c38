"""What stead writes into a domain of libvirt: whose it is, under which claim, what was applied, and
which start of it this is.

Owns the element and its reading. Other elements of a domain's metadata belong to others.
"""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from services.compute.logic.guest import Identity

NAMESPACE = "urn:stead:guest:1"
PREFIX = "stead"

_TAG = f"{{{NAMESPACE}}}guest"
_CLOUD_ID = re.compile(r"[0-9a-f]{8,32}")
_INSTANCE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class GuestMetadata:
    """Identity, the newest generation that is fully applied (0 if none), and a name for the newest
    start ("" before the first).
    """

    identity: Identity
    applied_generation: int
    started: str = ""


def checked(identity: Identity) -> Identity:
    """The identity, if all of it may stand in a path and a domain; else raises ValueError."""
    if (
        _CLOUD_ID.fullmatch(identity.cloud_id) is None
        or _INSTANCE_ID.fullmatch(identity.instance_id) is None
        or not 0 <= identity.epoch < 2**63
    ):
        raise ValueError(f"not an identity of a guest: {identity!r}")
    return identity


def domain_name(identity: Identity) -> str:
    """The domain's name: the ids in full, since the first digits of instance ids are a clock's."""
    return f"{domain_name_start(identity.cloud_id)}{identity.instance_id}"


def domain_name_start(cloud_id: str) -> str:
    """What the names of all domains of a cloud begin with."""
    return f"stead-{cloud_id}-"


def metadata_element(metadata: GuestMetadata) -> ElementTree.Element:
    """The element for a domain's `<metadata>`."""
    identity = checked(metadata.identity)
    return ElementTree.Element(
        _TAG,
        {
            "cloud": identity.cloud_id,
            "instance": identity.instance_id,
            "epoch": str(identity.epoch),
            "applied-generation": str(metadata.applied_generation),
            "started": metadata.started,
        },
    )


def metadata_text(metadata: GuestMetadata) -> str:
    """The element for virDomainSetMetadata, which adds the namespace itself."""
    element = metadata_element(metadata)
    element.tag = "guest"
    return ElementTree.tostring(element, encoding="unicode")


def read_metadata(domain_xml: str) -> GuestMetadata | None:
    """What stands in a domain's description; None if it is not stead's, or spoilt."""
    element = ElementTree.fromstring(domain_xml).find(f"metadata/{_TAG}")  # noqa: S314  # libvirtd's own
    if element is None:
        return None
    epoch = element.get("epoch", "")
    generation = element.get("applied-generation", "")
    if _NUMBER.fullmatch(epoch) is None or _NUMBER.fullmatch(generation) is None:
        return None
    identity = Identity(element.get("cloud", ""), element.get("instance", ""), int(epoch))
    try:
        return GuestMetadata(checked(identity), int(generation), element.get("started", ""))
    except ValueError:
        return None
