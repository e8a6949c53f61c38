"""What a host says on its stream, and what it is told there."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.api.flows.ports import Hello, Inventory, Observation, View
from services.domain.observation import ObservationOutcome


@dataclass(frozen=True, slots=True)
class HelloSaid:
    """The agent has begun."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class ObservationsSaid:
    """Something was seen of guests."""

    observations: Sequence[Observation]


@dataclass(frozen=True, slots=True)
class BeatSaid:
    """The agent is alive; whether it would not hear a command."""

    bus_silent: bool = False


@dataclass(frozen=True, slots=True)
class ViewWantedSaid:
    """The agent knows that it is behind."""


@dataclass(frozen=True, slots=True)
class InventorySaid:
    """The guests that the host has."""

    inventory: Inventory


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What became of each observation, by its number."""

    outcomes: Sequence[tuple[int, ObservationOutcome]]


@dataclass(frozen=True, slots=True)
class BeatAnswered:
    """The newest revision at which something was wanted of the host."""

    wanted_revision: int


@dataclass(frozen=True, slots=True)
class SupersededTold:
    """Another agent of this host is live."""


@dataclass(frozen=True, slots=True)
class ViewTold:
    """All that is wanted of the host."""

    view: View


Saying = HelloSaid | ObservationsSaid | BeatSaid | ViewWantedSaid | InventorySaid
Telling = ViewTold | Acknowledged | BeatAnswered | SupersededTold
