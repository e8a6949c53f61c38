"""The fleet as arrays: one column per host, one array per property.

Owns what is known of every host, the promises made to instances (debits) and the revision of the
feed that it shows. Does not choose, and has no clock: time comes in as a number. The ledger in the
database stays the judge; a debit only keeps this scheduler from promising the same room twice
before the feed shows the claim. Source: MECHANICS F1.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.domain.kinds import Architecture, Hypervisor, ImageKind
from services.domain.resources import Resources

DEBIT_S = 2.0

VCPUS, MEMORY, DISK = 0, 1, 2

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BitArray = NDArray[np.uint32]
HashArray = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class HostRow:
    """One host as its row says.

    `hypervisor` is None where it is of a kind that this release does not know.
    """

    id: str
    revision: int
    up: bool
    enabled: bool
    target: Resources
    used: Resources
    claims: int
    architectures: tuple[Architecture, ...]
    hypervisor: Hypervisor | None
    image_kinds: tuple[ImageKind, ...]


@dataclass(frozen=True, slots=True)
class Hosts:
    """The columns. The last axis is the host; amounts have three rows: vCPUs, memory in MiB, disk
    in GiB.

    `used` is the ledger's, `taken` is `used` and debits together. Bit n of a mask stands for the
    enum's number n; hypervisor 0 is an unknown one.
    """

    up: BoolArray
    enabled: BoolArray
    target: IntArray
    used: IntArray
    taken: IntArray
    claims: IntArray
    architectures: BitArray
    hypervisors: BitArray
    image_kinds: BitArray
    revisions: IntArray
    hashes: HashArray
    slots: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Debit:
    host_id: str
    resources: Resources
    until_s: float


class Fleet:
    """Every known host, and what was promised on it.

    Host rows and removals may come twice and late.
    """

    def __init__(self, *, columns: int = 64) -> None:
        self.revision = 0
        self._ids: list[str] = []
        self._debits: dict[str, _Debit] = {}
        self._all = _empty(columns)
        self.hosts = _first(self._all, 0)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def debits(self) -> int:
        """How many promises wait for their claim."""
        return len(self._debits)

    @property
    def ids(self) -> Sequence[str]:
        """The hosts' ids in the order of the columns."""
        return self._ids

    def host_replace_all(self, rows: Iterable[HostRow], revision: int) -> None:
        """Takes a full load, true at `revision`: hosts that it lacks are gone.

        Promises on the others stand.
        """
        loaded = {row.id: row for row in rows}
        for host_id in [i for i in self._ids if i not in loaded]:
            self._remove(host_id)
        self.hosts.revisions[:] = 0
        for row in loaded.values():
            self.host_upsert(row)
        self.revision = revision

    def host_upsert(self, row: HostRow) -> None:
        """Takes a row unless a newer one of this host is known."""
        slot = self.hosts.slots.get(row.id)
        if slot is None:
            slot = self._add(row.id)
        elif row.revision < self.hosts.revisions[slot]:
            return
        hosts = self.hosts
        promised = hosts.taken[:, slot] - hosts.used[:, slot]
        hosts.revisions[slot] = row.revision
        hosts.up[slot] = row.up
        hosts.enabled[slot] = row.enabled
        hosts.target[:, slot] = amounts_of(row.target)
        hosts.used[:, slot] = amounts_of(row.used)
        hosts.taken[:, slot] = hosts.used[:, slot] + promised
        hosts.claims[slot] = row.claims
        hosts.architectures[slot] = _bits(row.architectures)
        hosts.hypervisors[slot] = row.hypervisor or 0
        hosts.image_kinds[slot] = _bits(row.image_kinds)

    def host_remove(self, host_id: str, revision: int) -> None:
        """Forgets a host and the promises on it, unless a newer row of it is known."""
        slot = self.hosts.slots.get(host_id)
        if slot is not None and self.hosts.revisions[slot] <= revision:
            self._remove(host_id)

    def debit_add(
        self, instance_ids: Sequence[str], slots: IntArray, *, resources: Resources, now_s: float
    ) -> None:
        """Promises `resources` on the host of each slot to the instance beside it; replaces its
        earlier promise.
        """
        for instance_id, slot in zip(instance_ids, slots.tolist(), strict=True):
            self.debit_release(instance_id)
            self._debits[instance_id] = _Debit(self._ids[slot], resources, now_s + DEBIT_S)
        # A host can stand in `slots` several times: `+=` with an index array would count it once.
        for taken, amount in zip(self.hosts.taken, amounts_of(resources), strict=True):
            np.add.at(taken, slots, amount)

    def debit_release(self, instance_id: str) -> None:
        """Takes an instance's promise back, if there is one: the feed shows its claim, or nobody
        wants it any more.
        """
        debit = self._debits.pop(instance_id, None)
        if debit is not None:
            self.hosts.taken[:, self.hosts.slots[debit.host_id]] -= amounts_of(debit.resources)

    def debit_expire(self, now_s: float) -> None:
        """Takes back the promises whose claim did not show in time. `now_s` never goes back."""
        expired = []
        for instance_id, debit in self._debits.items():
            if debit.until_s > now_s:
                break
            expired.append(instance_id)
        for instance_id in expired:
            self.debit_release(instance_id)

    def _add(self, host_id: str) -> int:
        slot = len(self._ids)
        if slot == self._all.up.shape[-1]:
            self._all = _grown(self._all)
        self._ids.append(host_id)
        self._all.slots[host_id] = slot
        self.hosts = _first(self._all, slot + 1)
        for column in _arrays(self.hosts):
            column[..., slot] = 0
        self.hosts.hashes[slot] = hash_of(host_id)
        return slot

    def _remove(self, host_id: str) -> None:
        for instance_id in [i for i, d in self._debits.items() if d.host_id == host_id]:
            self.debit_release(instance_id)
        slot = self._all.slots.pop(host_id)
        last = len(self._ids) - 1
        moved = self._ids.pop()
        if slot != last:
            self._ids[slot] = moved
            self._all.slots[moved] = slot
            for column in _arrays(self._all):
                column[..., slot] = column[..., last]
        self.hosts = _first(self._all, last)


def hash_of(text: str) -> int:
    """64 bits that are the same for the same text in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def amounts_of(resources: Resources) -> IntArray:
    """vCPUs, memory in MiB, disk in GiB: the rows of an amount's column."""
    return np.array([resources.vcpus, resources.memory_mib, resources.disk_gib], np.int64)


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in set(numbers))


def _empty(columns: int) -> Hosts:
    def rows() -> IntArray:
        return np.zeros((3, columns), np.int64)

    return Hosts(
        up=np.zeros(columns, np.bool_),
        enabled=np.zeros(columns, np.bool_),
        target=rows(),
        used=rows(),
        taken=rows(),
        claims=np.zeros(columns, np.int64),
        architectures=np.zeros(columns, np.uint32),
        hypervisors=np.zeros(columns, np.uint32),
        image_kinds=np.zeros(columns, np.uint32),
        revisions=np.zeros(columns, np.int64),
        hashes=np.zeros(columns, np.uint64),
        slots={},
    )


_ARRAY_NAMES = tuple(field.name for field in fields(Hosts) if field.name != "slots")


def _with_arrays(hosts: Hosts, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Hosts:
    columns: dict[str, Any] = {name: change(getattr(hosts, name)) for name in _ARRAY_NAMES}
    return replace(hosts, **columns)


def _arrays(hosts: Hosts) -> list[NDArray[Any]]:
    return [getattr(hosts, name) for name in _ARRAY_NAMES]


def _first(hosts: Hosts, count: int) -> Hosts:
    return _with_arrays(hosts, lambda array: array[..., :count])


def _grown(hosts: Hosts) -> Hosts:
    return _with_arrays(hosts, lambda a: np.concatenate([a, np.zeros_like(a)], axis=-1))
