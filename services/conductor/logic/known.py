"""What a conductor knows of an instance from its own commits.

Owns how a situation follows from the one before and the item that was committed. Does not own how
long it is believed (flows/remember): only versions in a commit say whether it is still true.
"""

from dataclasses import replace

from services.conductor.logic.items import ClaimAct, Committed, Item, Record
from services.conductor.logic.rows import ClaimRow, InstanceRow, OperationRow, Situation


def instance_of(item: Item) -> str:
    """Which instance's situation an item changes; "" if none's."""
    if item.instance is not None:
        return item.instance.id
    if item.claims:
        return item.claims[0].instance_id
    return item.operations[0].resource_id if item.operations else ""


def settled(
    before: Situation | None, item: Item, committed: Committed, head_revision: int
) -> Situation | None:
    """The situation after the item was committed at `head_revision`, as the store would show it.

    None where it cannot be told: what the item stood on is not `before`, or a claim is LEAVING now,
    which only ends are.
    """
    row = item.instance
    if row is not None and row.version == 0:
        before = Situation(row, None, ())
    if before is None or (row is not None and row.version != before.instance.version):
        return None
    if any(change.act is ClaimAct.LEAVE for change in item.claims):
        return None
    records = {record.id: record for record in committed.records}
    if row is not None:
        told = records[row.id]
        row = replace(row, version=told.version, revision=told.revision, epoch=told.epoch)
    return Situation(
        row or before.instance,
        _operation(before.operation, item, records),
        (*_claims(before.claims, item, row), *committed.claims),
        head_revision,
    )


def _operation(
    before: OperationRow | None, item: Item, records: dict[str, Record]
) -> OperationRow | None:
    under_way = before
    for written in item.operations:
        if not written.finished:
            told = records[written.id]
            under_way = replace(written, version=told.version, revision=told.revision)
        elif under_way is not None and written.id == under_way.id:
            under_way = None
    return under_way


def _claims(
    before: tuple[ClaimRow, ...], item: Item, row: InstanceRow | None
) -> tuple[ClaimRow, ...]:
    removed = {change.epoch for change in item.claims if change.act is ClaimAct.REMOVE}
    discarded = {change.epoch for change in item.claims if change.act is ClaimAct.DISCARD}
    claims = tuple(
        replace(claim, discard=True) if claim.epoch in discarded else claim
        for claim in before
        if claim.epoch not in removed
    )
    if item.wants and row is not None:
        claims = tuple(replace(claim, wanted_revision=row.revision) for claim in claims)
    return claims
