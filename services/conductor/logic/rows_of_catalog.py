"""Rows that are no instance's as plain values: flavors, images, key pairs, projects.

Owns what such a row holds, as `rows` does for all others.
"""

from dataclasses import dataclass

from services.domain.kinds import Architecture, ImageKind
from services.domain.resources import UNUSED, QuotaAmounts, Resources


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image as a host needs to know it. `size_bytes` is the length of its file."""

    digest: str
    size_bytes: int
    kind: ImageKind
    architecture: Architecture


@dataclass(frozen=True, slots=True)
class FlavorRow:
    """A size on offer."""

    id: str
    name: str
    resources: Resources
    created_at_s: float
    deleted: bool = False
    version: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class ImageRow:
    """A verified image."""

    id: str
    project_id: str
    name: str
    reference: ImageReference
    min_disk_gib: int
    public: bool
    created_at_s: float
    deleted: bool = False
    version: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class KeyPairRow:
    """A public key of a project. `fingerprint` as ssh-keygen shows it."""

    id: str
    project_id: str
    name: str
    public_key: str
    fingerprint: str
    algorithm: str
    created_at_s: float
    deleted: bool = False
    version: int = 0
    revision: int = 0


CatalogRow = FlavorRow | ImageRow | KeyPairRow


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """An owner of things with its limits. `limits` are its own, None where the cloud's usual ones
    hold; `used` is what was read, never written.
    """

    id: str
    display_name: str
    created_at_s: float
    limits: QuotaAmounts | None = None
    used: QuotaAmounts = UNUSED
    deleted: bool = False
    version: int = 0
    revision: int = 0
