"""Wishes with odd values: refused with a reason or done, never a fault of stead. api has checked
what it passes on; the conductor does not rely on it.
"""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from services.domain.errors import Broken
from services.runtime.ids import new_id
from services.runtime.rpc import code_of
from tests.integration.conductor.conftest import Place
from tests.integration.conductor.flows import Sent, conductor
from tests.integration.conductor.test_flow import check_books
from tests.integration.conductor.wishes import WISHES, mutation, prepared, send

INTERNAL = code_of(Broken("X", ""))
TEXTS = ("", "\0", "x" * 5000, "-", new_id(), "\u202e")
NUMBERS = (-1, 0, (1 << 31) - 1, -(1 << 31))
LARGE = (*NUMBERS, (1 << 63) - 1, -(1 << 63))


def oddities(message: Any) -> list[Any]:
    """The message with one field at a time made odd, also inside of it."""
    found = []
    for field in message.DESCRIPTOR.fields:
        for value in _values(field):
            copy = type(message)()
            copy.CopyFrom(message)
            if field.is_repeated:
                del getattr(copy, field.name)[:]
                getattr(copy, field.name).append(value)
            else:
                setattr(copy, field.name, value)
            found.append(copy)
        if field.message_type is not None and not field.is_repeated:
            for inner in oddities(getattr(message, field.name)):
                copy = type(message)()
                copy.CopyFrom(message)
                getattr(copy, field.name).CopyFrom(inner)
                found.append(copy)
    return found


def _values(field: FieldDescriptor) -> tuple[Any, ...]:
    if field.type == FieldDescriptor.TYPE_STRING and field.name != "request_id":
        return TEXTS
    if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM):
        return NUMBERS
    if field.type == FieldDescriptor.TYPE_INT64:
        return LARGE
    return ()


@pytest.mark.parametrize("wish", WISHES)
async def test_an_odd_wish_is_never_a_fault_of_stead(place: Place, wish: str) -> None:
    async with conductor(place.url, Sent()) as made:
        ground = await prepared(made)
        for odd in oddities(WISHES[wish][0](ground)):
            told = getattr(odd, "create", getattr(odd, "description", odd))
            told.request_id = new_id()
            (result,) = await send(made, mutation(wish, odd))
            assert result.error.code != INTERNAL, odd
            assert result.error.reason or result.HasField("resource")
        check_books(place)
