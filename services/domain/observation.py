"""What becomes of a host's observation. Numbers of the enum are those of the internal contract."""

from enum import IntEnum


class ObservationOutcome(IntEnum):
    """What became of it; each value acknowledges. Source: MECHANICS D4."""

    APPLIED = 1
    DUPLICATE = 2
    NO_SUCH_CLAIM = 3
    SUPERSEDED = 4
