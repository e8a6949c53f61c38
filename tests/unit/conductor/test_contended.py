"""Who loses every race is told to come again; nothing is waited for without a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from services.conductor.flows.greet import TRIES_MAX, Greeter, Hello
from services.conductor.logic.items import Item, Refusal, Refused
from services.domain.errors import Unavailable
from services.domain.resources import Overcommit, Resources


class AlwaysLate:
    """A store and a committer in which somebody else was faster, every time."""

    def __init__(self) -> None:
        self.tries = 0

    async def hosts_read(self, host_ids: Sequence[str]) -> dict[str, Any]:
        return {}

    async def commit(self, item: Item, key: str) -> Refused:
        self.tries += 1
        return Refused(Refusal.STALE)

    def now_s(self) -> float:
        return 1.0


async def test_a_row_that_changes_under_every_try_is_contended() -> None:
    late: Any = AlwaysLate()
    amounts = Resources(1, 1, 1)
    hello = Hello("h", "m", "b", "0", amounts, Resources(0, 0, 0), Overcommit(), b"")
    with pytest.raises(Unavailable) as refused:
        await Greeter(late, late, late).greet(hello)
    assert refused.value.reason == "ROW_CONTENDED"
    assert late.tries == TRIES_MAX
