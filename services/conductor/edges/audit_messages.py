"""Inventories and audits as messages, from and to the conductor's own values."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from stead.internal.v1 import compute_pb2, conductor_pb2
from stead.v1 import audit_pb2

from services.conductor.edges.messages import power_from
from services.conductor.flows.audit import Compared
from services.conductor.flows.audit_ports import Inventory, ReportedGuest
from services.conductor.flows.inventory import GUESTS_MAX, After
from services.conductor.logic.audit import Difference, unknown_kind
from services.conductor.logic.audit_advice import ADVICE
from services.conductor.logic.audit_facts import UnknownGuest

# What a host may say of one guest: a 64-bit number above 0.
NUMBER_MAX = (1 << 63) - 1


def inventory_from(message: conductor_pb2.HostInventory) -> Inventory:
    """What a host says that it has."""
    told = message.inventory
    return Inventory(
        host_id=message.host_id,
        incarnation=message.incarnation,
        number=max(1, told.number),
        as_of_revision=max(0, told.as_of_revision),
        guests=_guests(told.guests),
        cut_short=told.cut_short or len(told.guests) > GUESTS_MAX,
    )


def greeting_from(hello: compute_pb2.Hello, incarnation: int) -> Inventory:
    """What a host says that it has when it greets."""
    cut_short = len(hello.guests) > GUESTS_MAX
    return Inventory(hello.host_id, incarnation, 0, 0, _guests(hello.guests), cut_short=cut_short)


def _guests(told: Sequence[compute_pb2.Guest]) -> tuple[ReportedGuest, ...]:
    return tuple(
        ReportedGuest(g.instance_id, g.epoch, g.applied_generation, power_from(g.power))
        for g in told[:GUESTS_MAX]
    )


def audit_response(found: Sequence[Difference] | Compared) -> conductor_pb2.AuditResponse:
    """A stretch of an audit."""
    if isinstance(found, Compared):
        return conductor_pb2.AuditResponse(done=audit_pb2.AuditDone(**found.counts))
    return conductor_pb2.AuditResponse(differences=map(_difference, found))


def _difference(found: Difference) -> audit_pb2.Difference:
    cause, mend = ADVICE[found.kind]
    return audit_pb2.Difference(
        kind=found.kind.value,  # type: ignore[arg-type]  # numbers are those of the contract
        host_id=found.host_id,
        instance_id=found.instance_id,
        operation_id=found.operation_id,
        project_id=found.project_id,
        epoch=found.epoch,
        found=found.found,
        cause=cause,
        mend=mend,
    )


def after_from(message: conductor_pb2.ListUnknownGuestsRequest) -> After:
    """Where a list goes on."""
    after = message.after
    return after.host_id, after.instance_id, after.epoch


def unknown_guests(
    found: Sequence[UnknownGuest], more: After | None
) -> conductor_pb2.ListUnknownGuestsResponse:
    """A page of guests that nobody claims."""
    response = conductor_pb2.ListUnknownGuestsResponse(guests=map(_unknown, found))
    if more is not None:
        host_id, instance_id, epoch = more
        response.more_after.host_id = host_id
        response.more_after.instance_id = instance_id
        response.more_after.epoch = epoch
    return response


def _unknown(guest: UnknownGuest) -> audit_pb2.UnknownGuest:
    kind = unknown_kind(guest.epoch, guest.newest_epoch, guest.head_revision)
    return audit_pb2.UnknownGuest(
        host_id=guest.host_id,
        instance_id=guest.instance_id,
        epoch=guest.epoch,
        power=guest.power.value,  # type: ignore[arg-type]  # numbers are those of the contract
        first_reported_time=_moment(guest.first_reported_at_s),
        reported_time=_moment(guest.reported_at_s),
        kind=kind.value,  # type: ignore[arg-type]  # as above
    )


def _moment(at_s: float) -> Timestamp:
    moment = Timestamp()
    moment.FromMilliseconds(int(at_s * 1000))
    return moment
