"""Quotas: which limits a wish would pass, as an error says it.

Owns the arithmetic of a refusal. Does not own the count: the store keeps it in the commit that
accepts (MECHANICS A1).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from services.domain.resources import QuotaAmounts, Resources

NO_LIMIT = -1


@dataclass(frozen=True, slots=True)
class Excess:
    """One limit that would be passed."""

    resource: str
    limit: int
    used: int
    asked: int


def asked_of(resources: Resources) -> QuotaAmounts:
    """What one more instance of this size counts for."""
    return QuotaAmounts(1, resources.vcpus, resources.memory_mib, resources.disk_gib)


def excesses(limits: QuotaAmounts, used: QuotaAmounts, asked: QuotaAmounts) -> list[Excess]:
    """The limits that `asked` would pass beside what is used; none where it fits."""
    has, wants = asdict(used), asdict(asked)
    return [
        Excess(resource, limit, has[resource], wants[resource])
        for resource, limit in asdict(limits).items()
        if limit != NO_LIMIT and has[resource] + wants[resource] > limit
    ]


def metadata_of(found: list[Excess]) -> dict[str, str]:
    """The variables of the error: limit, used and asked of each resource."""
    return {
        f"{one.resource}_{part}": str(value)
        for one in found
        for part, value in (("limit", one.limit), ("used", one.used), ("asked", one.asked))
    }


def violations_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """The same in words, by resource."""
    return {
        resource: (
            f"{metadata[f'{resource}_asked']} asked beside {metadata[f'{resource}_used']} used, "
            f"the limit is {metadata[key]}"
        )
        for key in sorted(metadata)
        if (resource := key.removesuffix("_limit")) != key
    }
