"""Audits for cloud admins: passes on what the conductor finds, and pages through unknown guests.

Owns page tokens. Does not compare: the conductor does.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from services.api.logic.seal import Place, binding, seal, unseal
from services.domain.errors import Invalid

PAGE_GUESTS = 100
PAGE_GUESTS_MAX = 1000


class Found(Protocol):
    """A difference, a guest, or how much was compared: opaque here."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What an audit found since the stretch before; `done` is set in the last one."""

    differences: Sequence[Found]
    done: Found | None


@dataclass(frozen=True, slots=True)
class GuestKey:
    """Where a guest stands in the list."""

    host_id: str = ""
    instance_id: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class GuestPage:
    """Guests that nobody claims, and after which the next page begins."""

    guests: Sequence[Found]
    more_after: GuestKey | None


class Audits(Protocol):
    """The conductor's side. Each method raises the refusal, or Unavailable."""

    def audit(self, host_id: str) -> AsyncGenerator[Stretch, None]:
        """All differences, of one host or (with "") of the cloud."""
        ...

    async def unknown_guests(self, host_id: str, after: GuestKey, limit: int) -> GuestPage:
        """A page of guests."""
        ...


@dataclass(frozen=True, slots=True)
class GuestAsk:
    """Which unknown guests to list; fields as in ListUnknownGuestsRequest."""

    host_id: str
    page_size: int
    page_token: str


async def audit(audits: Audits, host_id: str) -> AsyncGenerator[Stretch, None]:
    """Every stretch up to the last. Raises NotFound (HOST_NOT_FOUND), Unavailable."""
    async with aclosing(audits.audit(host_id)) as stretches:
        async for stretch in stretches:
            yield stretch


async def list_unknown_guests(
    audits: Audits, ask: GuestAsk, *, page_key: bytes
) -> tuple[Sequence[Found], str]:
    """A page and the token of the next one. Raises Invalid (PAGE_TOKEN_INVALID), Unavailable."""
    bound_to = binding("unknown guests", ask.host_id)
    after = GuestKey()
    if ask.page_token:
        opened = unseal(page_key, ask.page_token, bound_to)
        if opened is None:
            raise Invalid(
                "PAGE_TOKEN_INVALID",
                "this page token is not of this list; leave it empty to begin anew",
                field="page_token",
            )
        after = GuestKey(opened.last_key, opened.last_id, opened.revision)
    limit = min(ask.page_size or PAGE_GUESTS, PAGE_GUESTS_MAX)
    page = await audits.unknown_guests(ask.host_id, after, limit)
    more = page.more_after
    if more is None:
        return page.guests, ""
    return page.guests, seal(
        page_key, Place("", more.epoch, more.host_id, more.instance_id), bound_to
    )
