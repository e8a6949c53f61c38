"""Welcomes a host's agent: a new incarnation, then its view. Source: MECHANICS D2."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from services.conductor.flows.commit import Committer
from services.conductor.flows.ports import Clock, Store, View
from services.conductor.logic.items import Committed, Item
from services.conductor.logic.leases import LEASE_S
from services.conductor.logic.rows import HostRow
from services.domain.errors import Conflict, Invalid, NotFound, Unavailable
from services.domain.ids import is_host_id
from services.domain.kinds import HostState
from services.domain.resources import Overcommit, Resources, target_of

TRIES_MAX = 8
TEXT_MAX = 255
CAPABILITIES_BYTES_MAX = 16 * 1024
AMOUNT_MAX = 1 << 40
PERMILLE_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Hello:
    """What an agent says of its host. `capabilities` is carried, not looked into; `guests` are
    (instance id, epoch) of those that it finds.
    """

    host_id: str
    machine_id: str
    boot_id: str
    agent_version: str
    capacity: Resources
    reserved: Resources
    overcommit: Overcommit
    capabilities: bytes
    guests: tuple[tuple[str, int], ...] = ()


class Greeter:
    """Gives incarnations and views."""

    def __init__(
        self, store: Store, committer: Committer, clock: Clock, *, lease_s: float = LEASE_S
    ) -> None:
        self._lease_s = lease_s
        self._store = store
        self._committer = committer
        self._clock = clock

    async def greet(self, hello: Hello) -> View:
        """Commits the next incarnation and reads the view.

        Raises Invalid (HOST_ID_INVALID, HELLO_INVALID), Conflict (SUPERSEDED) if another agent of
        the host greeted meanwhile, (HOST_IDENTITY_IN_USE) if another machine has its name.
        """
        if not is_host_id(hello.host_id):
            raise Invalid("HOST_ID_INVALID", "a host id is 1 to 63 of a-z, 0-9 and dash")
        _check(hello)
        for _ in range(TRIES_MAX):
            known = (await self._store.hosts_read([hello.host_id])).get(hello.host_id)
            if known is not None:
                await self._refuse_twin(hello, known)
            row = self._row(hello, known)
            outcome = await self._committer.commit(Item(host=row), "")
            if isinstance(outcome, Committed):
                # Never the view of a later greeting: two agents would share its incarnation.
                view = await self.view(hello.host_id, row.incarnation)
                return replace(view, outdated=await self._outdated(view, hello.guests))
        raise Unavailable("ROW_CONTENDED", "several agents greet for this host at once")

    async def view(self, host_id: str, incarnation: int) -> View:
        """The view of a live incarnation. Raises Conflict (SUPERSEDED) for another one, and for one
        that is fenced: its guests may be made elsewhere by now.
        """
        view = await self._store.host_view_read(host_id)
        if view is None:
            raise NotFound("HOST_NOT_FOUND", f"there is no host {host_id}")
        if view.incarnation != incarnation or view.fenced:
            raise Conflict("SUPERSEDED", "another agent of this host is live, or it is fenced")
        return view

    async def _refuse_twin(self, hello: Hello, known: HostRow) -> None:
        """Another machine may not take the name of one that may be alive. MECHANICS D3."""
        if known.machine_id == hello.machine_id or known.deleted or known.fenced:
            return
        silent_s = (await self._store.silences_read([known.id])).get(known.id, math.inf)
        if silent_s <= self._lease_s:
            raise Conflict(
                "HOST_IDENTITY_IN_USE",
                f"another machine is host {known.id} and was heard {silent_s:.0f} s ago; give this"
                " one an id of its own, or end the other's agent and wait for its lease to lapse",
                metadata={"host_id": known.id},
            )

    async def _outdated(
        self, view: View, guests: Sequence[tuple[str, int]]
    ) -> tuple[tuple[str, int], ...]:
        """Of the guests that the host told of, those without a claim here whose instance lives on
        under a higher epoch. MECHANICS C7.
        """
        claims = {(claim.instance_id, claim.epoch) for _, claim in view.wanted}
        others = [guest for guest in guests if guest not in claims]
        if not others:
            return ()
        epochs = await self._store.epochs_read([instance_id for instance_id, _ in others])
        return tuple((id_, epoch) for id_, epoch in others if epochs.get(id_, 0) > epoch)

    def _row(self, hello: Hello, known: HostRow | None) -> HostRow:
        return HostRow(
            id=hello.host_id,
            seen_edition=known.seen_edition if known else 0,
            machine_id=hello.machine_id,
            boot_id=hello.boot_id,
            state=HostState.UP,
            enabled=known.enabled if known else True,
            disabled_reason=known.disabled_reason if known else "",
            incarnation=known.incarnation + 1 if known else 1,
            capacity=hello.capacity,
            reserved=hello.reserved,
            overcommit=hello.overcommit,
            target=target_of(hello.capacity, hello.reserved, hello.overcommit),
            capabilities=hello.capabilities,
            agent_version=hello.agent_version,
            created_at_s=known.created_at_s if known else self._clock.now_s(),
        )


def _check(hello: Hello) -> None:
    """A host is the least trusted part: what it says of itself must fit a row and a message."""
    texts = (hello.machine_id, hello.boot_id, hello.agent_version)
    amounts = (*astuple(hello.capacity), *astuple(hello.reserved))
    if (
        any(len(text) > TEXT_MAX or not text.isprintable() for text in texts)
        or len(hello.capabilities) > CAPABILITIES_BYTES_MAX
        or any(not 0 <= amount <= AMOUNT_MAX for amount in amounts)
        or any(not 0 <= permille <= PERMILLE_MAX for permille in astuple(hello.overcommit))
    ):
        raise Invalid("HELLO_INVALID", "what the host says of itself is out of bounds")
