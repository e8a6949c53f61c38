"""What the flows of api need of the world. Requests, views and observations are opaque to them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from services.api.logic.caller import Caller
from services.api.logic.image_verdict import Reader, Verdict
from services.api.logic.row import Page, PageQuery, Row
from services.domain.errors import CloudError
from services.domain.kinds import Architecture, ImageKind, ResourceKind
from services.domain.observation import ObservationOutcome


class Wish(Protocol):
    """A user's mutation as it came."""

    @property
    def request_id(self) -> str:
        """The caller's UUID for it."""
        ...

    @property
    def validate_only(self) -> bool:
        """Whether it only asks what would become of it."""
        ...


class WishAbout(Wish, Protocol):
    """A mutation of a row that is there."""

    @property
    def id(self) -> str:
        """The row's id."""
        ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a wish: the row it is about, and the operation that carries it out.

    Of a wish that only asks there is no operation, and the row is what would be: with version 0
    where it would be new.
    """

    resource: Row
    operation: Row | None


@dataclass(frozen=True, slots=True)
class ImageDescription:
    """What an upload claims to be. `digest` is lower-case hexadecimal SHA-256."""

    request_id: str
    name: str
    kind: ImageKind
    architecture: Architecture
    digest: str
    size_bytes: int
    public: bool
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """A stretch of the feed. Revisions of two histories have nothing to do with each other.

    The log holds every change above `compacted_revision`.
    """

    rows: Sequence[Row]
    head_revision: int
    history_id: str
    compacted_revision: int = 0


class Conductor(Protocol):
    """The owner of every row. Each method raises the refusal, or Unavailable where it does not
    answer in time.
    """

    async def wish_accept(self, caller: Caller, wish: Wish) -> Accepted:
        """Commits a mutation."""
        ...

    async def batch_accept(
        self, caller: Caller, wishes: Sequence[Wish], fingerprint: bytes
    ) -> list[Accepted | CloudError]:
        """Commits new instances that share one request id, each for itself, and answers in their
        order; `fingerprint` is of the whole batch.
        """
        ...

    async def image_register(
        self, caller: Caller, description: ImageDescription, *, min_disk_gib: int
    ) -> Accepted:
        """Commits an image whose bytes are in the store."""
        ...

    async def row_read(self, caller: Caller, kind: ResourceKind, row_id: str) -> Row | None:
        """One row as of the newest commit."""
        ...

    async def page_read(self, caller: Caller, query: PageQuery) -> Page:
        """Rows of one noun."""
        ...

    async def changes_read(self, after_revision: int, limit: int) -> Changes:
        """The change log above a revision, and its head."""
        ...


class Hello(Protocol):
    """How an agent introduces its host."""

    @property
    def host_id(self) -> str:
        """The host."""
        ...


class View(Protocol):
    """All that is wanted of a host."""

    @property
    def incarnation(self) -> int:
        """Under which its agent runs from now on."""
        ...


class Observation(Protocol):
    """What a host saw of one guest."""

    @property
    def sequence(self) -> int:
        """Its number within the incarnation."""
        ...


class Inventory(Protocol):
    """All guests that a host has."""

    @property
    def number(self) -> int:
        """Its number on the stream."""
        ...


@dataclass(frozen=True, slots=True)
class BeatKnown:
    """What a host should know after a beat."""

    superseded: bool
    wanted_revision: int


class HostRecords(Protocol):
    """The conductor's side of a host. Each method raises the refusal, or Unavailable."""

    async def host_greet(self, hello: Hello) -> View:
        """A new incarnation and its view."""
        ...

    async def view_read(self, host_id: str, incarnation: int) -> View:
        """The view of a live incarnation. Raises Conflict (SUPERSEDED)."""
        ...

    async def digests_read(self, host_id: str, incarnation: int) -> frozenset[str]:
        """The digests that the claims of a live incarnation name. Raises NotFound
        (HOST_NOT_FOUND), Conflict (SUPERSEDED).
        """
        ...

    async def observations_apply(
        self, host_id: str, incarnation: int, observations: Sequence[Observation]
    ) -> list[ObservationOutcome]:
        """Commits what a host saw; what became of each."""
        ...

    async def inventory_report(self, host_id: str, incarnation: int, inventory: Inventory) -> bool:
        """Tells which guests a host has; whether its incarnation is the live one."""
        ...

    async def beat_renew(self, host_id: str, incarnation: int, bus_silent: bool) -> BeatKnown:
        """Renews the host's lease; `bus_silent` where commands would not reach it."""
        ...


class Upload(Protocol):
    """Bytes on their way into the store; nothing of them is left unless they are kept."""

    async def write(self, chunk: bytes) -> None:
        """Appends. Raises NoCapacity (STORAGE_FULL)."""
        ...

    async def digest(self) -> str:
        """Lower-case hexadecimal SHA-256 of all that was written."""
        ...

    async def inspect(self, look: Callable[[Reader], Verdict]) -> Verdict:
        """Looks at the file with a pure function."""
        ...

    async def keep(self, digest: str) -> bool:
        """Puts the file under its digest, durably; whether it was not there before. Raises
        NoCapacity.
        """
        ...


class ImageStore(Protocol):
    """The bytes of images, addressed by digest."""

    def upload(self, size_bytes: int) -> AbstractAsyncContextManager[Upload]:
        """Begins an upload. Raises NoCapacity (STORAGE_FULL) where so much cannot fit."""
        ...

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Holds off everyone else who decides what stays. Raises Unavailable (STORE_BUSY)."""
        ...

    async def remove(self, digest: str) -> None:
        """Removes a blob and what was noted of it, if it is there."""
        ...

    async def older_than(self, age_s: float) -> Sequence[str]:
        """The digests of the blobs that came more than so long ago."""
        ...

    async def note_deleted(self, digest: str, image_id: str) -> None:
        """Remembers, durably, that an image with these bytes is being deleted. Raises NoCapacity
        (STORAGE_FULL).
        """
        ...

    async def deleted_images(self, digest: str) -> Sequence[str]:
        """The ids that were noted of a blob."""
        ...

    def read(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        """Pieces from `offset` to the end. Raises NotFound (BLOB_NOT_FOUND), Invalid."""
        ...


@dataclass(frozen=True, slots=True)
class ConsoleLogAsk:
    """Asks for the end of a console's log."""

    max_bytes: int


@dataclass(frozen=True, slots=True)
class ConsoleOpening:
    """Asks to be joined to a console, from `offset` or, with None, from now on."""

    offset: int | None
    write: bool
    take_over: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a host about the console of one guest."""

    ticket: str
    host_id: str
    instance_id: str
    epoch: int
    ask: ConsoleLogAsk | ConsoleOpening


class Questions(Protocol):
    """The road of questions to hosts."""

    async def ask(self, question: Question) -> None:
        """Sends it. Raises Unavailable (HOST_UNREACHABLE) where it cannot leave."""
        ...
