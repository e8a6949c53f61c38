"""Amounts of what instances use up, and the ledger's arithmetic. Exact integers only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resources:
    """vCPUs, memory in MiB, disk in GiB."""

    vcpus: int
    memory_mib: int
    disk_gib: int

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            self.vcpus + other.vcpus,
            self.memory_mib + other.memory_mib,
            self.disk_gib + other.disk_gib,
        )

    def fits(self, room: "Resources") -> bool:
        """Whether every amount is at most that of `room`."""
        return (
            self.vcpus <= room.vcpus
            and self.memory_mib <= room.memory_mib
            and self.disk_gib <= room.disk_gib
        )


NOTHING = Resources(0, 0, 0)


@dataclass(frozen=True, slots=True)
class QuotaAmounts:
    """What quotas count: living instances, their vCPUs, memory in MiB, disk in GiB. As a limit -1
    is none.
    """

    instances: int
    vcpus: int
    memory_mib: int
    disk_gib: int


UNLIMITED = QuotaAmounts(-1, -1, -1, -1)
UNUSED = QuotaAmounts(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Overcommit:
    """By how much each resource may be promised more than once, in thousandths of what there is."""

    vcpus_permille: int = 4000
    memory_permille: int = 1000
    disk_permille: int = 1000


def target_of(capacity: Resources, reserved: Resources, ratio: Overcommit) -> Resources:
    """What claims may add up to: capacity times ratio, rounded down, less reserved; never below
    zero.

    Source: MECHANICS A7.
    """
    return Resources(
        max(0, capacity.vcpus * ratio.vcpus_permille // 1000 - reserved.vcpus),
        max(0, capacity.memory_mib * ratio.memory_permille // 1000 - reserved.memory_mib),
        max(0, capacity.disk_gib * ratio.disk_permille // 1000 - reserved.disk_gib),
    )
