"""What differs between records, and between records and what hosts say.

Pure: facts of one snapshot in, differences out. What is said of hosts' guests is only suspected
from one look: the flow looks again (flows/audit). Does not own how facts are read.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

from services.conductor.logic.audit_facts import (
    Amounts,
    ClaimFact,
    GuestFact,
    HostFact,
    HostLook,
    InstanceFact,
    OperationFact,
    ProjectFact,
)
from services.conductor.logic.guest_policy import MADE
from services.domain.instance import ALIVE, Power, State, Task
from services.domain.kinds import ClaimRole, HostState

# The reconciler takes what is due four times a second; who is that late is not taken at all.
LOOK_LATE_S_MAX = 60.0
LATE_S_MAX = 60.0

ON_A_HOST = MADE | {State.BUILDING}
# While these are under way the guest goes, or comes elsewhere.
MOVING = frozenset({"DELETING", "EVACUATING"})


class Kind(IntEnum):
    """What disagrees. Numbers are those of the public contract."""

    LEDGER_DIFFERS = 1
    QUOTA_DIFFERS = 2
    INSTANCE_WITHOUT_CLAIM = 3
    CLAIM_WITHOUT_INSTANCE = 4
    TASK_WITHOUT_OPERATION = 5
    OPERATION_WITHOUT_TASK = 6
    OPERATION_WITHOUT_INSTANCE = 7
    OPERATION_NOT_LOOKED_AT = 8
    OPERATION_WITHOUT_DEADLINE = 9
    OPERATION_OVERDUE = 10
    GUEST_WITHOUT_CLAIM = 11
    GUEST_EPOCH_OLDER = 12
    GUEST_EPOCH_ABOVE_HEAD = 13
    CLAIM_WITHOUT_GUEST = 14
    POWER_DIFFERS = 15
    HOST_NOT_COMPARED = 16
    CLAIM_NOT_LEFT = 17


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference; ids that have nothing to do with it are empty.

    `version` is the instance's: what is suspected at another version is another suspicion.
    """

    kind: Kind
    found: str
    host_id: str = ""
    instance_id: str = ""
    operation_id: str = ""
    project_id: str = ""
    epoch: int = 0
    version: int = 0

    @property
    def suspicion(self) -> tuple[Kind, str, str, int, int]:
        """What must be found again for it to be told."""
        return self.kind, self.host_id, self.instance_id, self.epoch, self.version


def of_hosts(facts: Iterable[HostFact]) -> Iterator[Difference]:
    """Ledgers that are not the sums of their claims."""
    for fact in facts:
        if fact.used != fact.claimed:
            found = f"the ledger says {_told(fact.used)}, its claims add up to "
            yield Difference(
                Kind.LEDGER_DIFFERS, found + _told(fact.claimed, "claims"), host_id=fact.id
            )


def of_projects(facts: Iterable[ProjectFact]) -> Iterator[Difference]:
    """Uses that are not the sums of living instances."""
    for fact in facts:
        if fact.used != fact.living:
            found = f"counted are {_told(fact.used)}, its living instances add up to "
            yield Difference(
                Kind.QUOTA_DIFFERS, found + _told(fact.living, "instances"), project_id=fact.id
            )


def of_instances(facts: Iterable[InstanceFact]) -> Iterator[Difference]:
    """Instances without the claim or the operation that they should have."""
    for fact in facts:
        found_of = partial(
            Difference, instance_id=fact.id, project_id=fact.project_id, host_id=fact.host_id
        )
        held = fact.state in ON_A_HOST and fact.task.name not in MOVING - {"DELETING"}
        if (fact.host_id and fact.holder != (fact.host_id, fact.epoch)) or (
            held and fact.holder is None
        ):
            holder = f"its holder is {fact.holder[0]}" if fact.holder else "no claim holds it"
            found = f"it is {fact.state.name} on host {fact.host_id or 'none'}, {holder}"
            yield found_of(Kind.INSTANCE_WITHOUT_CLAIM, found, epoch=fact.epoch)
        if fact.task is not Task.NONE and not fact.operation_id:
            found = f"its task is {fact.task.name}, nothing is under way"
            yield found_of(Kind.TASK_WITHOUT_OPERATION, found)


def of_claims(facts: Iterable[ClaimFact]) -> Iterator[Difference]:
    """Claims that hold something for nobody."""
    for fact in facts:
        if fact.role is ClaimRole.LEAVING:
            continue
        gone = fact.state is None or fact.state is State.DELETED
        elsewhere = fact.role is ClaimRole.HOLDER and (
            (fact.instance_host_id, fact.instance_epoch) != (fact.host_id, fact.epoch)
        )
        if gone or elsewhere:
            found = "there is no such instance" if gone else (
                f"the instance says host {fact.instance_host_id or 'none'}, "
                f"epoch {fact.instance_epoch}"
            )  # fmt: skip
            yield Difference(
                Kind.CLAIM_WITHOUT_INSTANCE,
                f"the claim is {fact.role.name}; {found}",
                host_id=fact.host_id,
                instance_id=fact.instance_id,
                project_id=fact.project_id,
                epoch=fact.epoch,
            )


def of_operations(facts: Iterable[OperationFact]) -> Iterator[Difference]:
    """Unfinished operations that nothing will end, or that are about nothing."""
    for fact in facts:
        for kind, found in _of_operation(fact):
            yield Difference(
                kind,
                found,
                operation_id=fact.id,
                instance_id=fact.resource_id if fact.of_instance else "",
                project_id=fact.project_id,
            )


def _of_operation(fact: OperationFact) -> Iterator[tuple[Kind, str]]:
    if fact.of_instance and (fact.state is None or fact.state is State.DELETED):
        yield Kind.OPERATION_WITHOUT_INSTANCE, f"there is no living instance {fact.resource_id}"
    elif fact.of_instance and fact.task is Task.NONE:
        yield Kind.OPERATION_WITHOUT_TASK, "the instance has no task"
    if fact.look_late_s > LOOK_LATE_S_MAX:
        found = f"it should have been looked at {fact.look_late_s:.0f} s ago"
        yield Kind.OPERATION_NOT_LOOKED_AT, found
    if fact.late_s is None:
        yield Kind.OPERATION_WITHOUT_DEADLINE, "it would never end by itself"
    elif fact.late_s > LATE_S_MAX:
        yield Kind.OPERATION_OVERDUE, f"its deadline was {fact.late_s:.0f} s ago"


def of_look(look: HostLook) -> Sequence[Difference]:
    """What is suspected of a host's guests after one look."""
    assert look.report is not None
    found = []
    for guest in look.guests:
        told = _of_guest(guest, look)
        if told is not None:
            kind, words = told
            found.append(
                Difference(
                    kind,
                    words,
                    host_id=look.host_id,
                    instance_id=guest.instance_id,
                    project_id=guest.project_id,
                    epoch=guest.epoch,
                    version=guest.version,
                )
            )
    return found


def _of_guest(guest: GuestFact, look: HostLook) -> tuple[Kind, str] | None:
    if guest.role is None:
        kind = unknown_kind(guest.epoch, guest.newest_epoch, look.head_revision)
        power = guest.power.name if guest.power else "PENDING"
        return kind, f"the host has it, {power}; newest epoch of the instance {guest.newest_epoch}"
    if guest.power is None:
        whole = look.report is not None and not look.report.cut_short
        return _of_nothing(guest) if whole else None
    if guest.role is ClaimRole.LEAVING:
        return _of_leaving(guest)
    if guest.task is not Task.NONE or guest.state not in MADE:
        return None
    if guest.power is Power.PENDING or _is_alike(guest.power, guest.known_power):
        return None
    known = guest.known_power.name if guest.known_power else "PENDING"
    return Kind.POWER_DIFFERS, f"the host says {guest.power.name}, known is {known}"


def _of_leaving(guest: GuestFact) -> tuple[Kind, str] | None:
    """What is wrong with a guest that is to go, or to be off."""
    if guest.power in ALIVE:
        return Kind.POWER_DIFFERS, "it runs, and should have gone"
    if guest.discard and guest.discarded_s > LATE_S_MAX:
        return Kind.CLAIM_NOT_LEFT, f"it was to be erased {guest.discarded_s:.0f} s ago"
    return None


def _is_alike(seen: Power, known: Power | None) -> bool:
    """A guest that crashed is off, however it came to it."""
    off = (Power.OFF, Power.CRASHED)
    return seen is known or (seen in off and known in off)


def _of_nothing(guest: GuestFact) -> tuple[Kind, str] | None:
    """What is wrong with a claim of which the host has nothing."""
    if guest.role is ClaimRole.LEAVING:
        return Kind.CLAIM_NOT_LEFT, "it is to go, and the host has nothing of it any more"
    made = guest.role is ClaimRole.HOLDER and guest.state in MADE
    if made and guest.task is not None and guest.task.name not in MOVING:
        return Kind.CLAIM_WITHOUT_GUEST, "it was made there, and the host has nothing of it"
    return None


def unknown_kind(epoch: int, newest_epoch: int, head_revision: int) -> Kind:
    """Why a guest that no claim stands for is not known."""
    if epoch > head_revision:
        return Kind.GUEST_EPOCH_ABOVE_HEAD
    return Kind.GUEST_EPOCH_OLDER if newest_epoch > epoch else Kind.GUEST_WITHOUT_CLAIM


def not_compared(look: HostLook, *, asked: bool) -> Difference | None:
    """Why a host's guests cannot be compared; None where there is nothing to compare, or it can be.

    `asked`: it was asked what it has, and did not answer.
    """
    if not look.guests and look.state is not HostState.UP:
        return None
    if look.state is not HostState.UP:
        found = f"the host is {look.state.name}"
    elif asked:
        found = "the host did not answer what it has"
    elif look.report is not None and look.report.cut_short:
        found = "the host has more guests than it can tell"
    else:
        return None
    told = f", it last told so {look.report.age_s:.0f} s ago" if look.report else ""
    return Difference(Kind.HOST_NOT_COMPARED, found + told, host_id=look.host_id)


def _told(amounts: Amounts, counted: str = "") -> str:
    vcpus, memory_mib, disk_gib, count = amounts
    return f"{vcpus} vCPU, {memory_mib} MiB, {disk_gib} GiB, {count} {counted}".strip()
