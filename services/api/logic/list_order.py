"""The order of lists: `FIELD` or `FIELD desc`.

Owns which orders each noun has; all of them are kept by an index and never change for a row.
"""

from dataclasses import dataclass

from services.domain.kinds import ListOrder, ResourceKind

_CREATED = {"id": ListOrder.ID, "create_time": ListOrder.ID}
_NAMED = {**_CREATED, "name": ListOrder.NAME}
_ORDERS = {
    ResourceKind.INSTANCE: _NAMED,
    ResourceKind.OPERATION: _CREATED,
    ResourceKind.FLAVOR: _NAMED,
    ResourceKind.IMAGE: _NAMED,
    ResourceKind.HOST: {"id": ListOrder.ID},
    ResourceKind.PROJECT: {"id": ListOrder.ID},
    ResourceKind.KEY_PAIR: _NAMED,
}


@dataclass(frozen=True, slots=True)
class Order:
    """By what, and from which end."""

    by: ListOrder = ListOrder.ID
    descending: bool = False


@dataclass(frozen=True, slots=True)
class BadOrder:
    """Why an order cannot be had."""

    why: str


def order_from(text: str, kind: ResourceKind) -> Order | BadOrder:
    """The order that a text asks for; ids are in the order of creation."""
    words = text.split()
    field = words[0] if words else "id"
    by = _ORDERS[kind].get(field)
    if by is None or words[1:] not in ([], ["desc"]):
        known = ", ".join(_ORDERS[kind])
        return BadOrder(f"a list is ordered by one of {known}, with ` desc` for the reverse")
    return Order(by, descending=words[1:] == ["desc"])
