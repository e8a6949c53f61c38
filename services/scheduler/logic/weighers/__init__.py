"""The weighers: each scores all hosts at once, and a signed weight says how much it matters.

Positive weights spread instances to hosts with much room, negative ones pack them. Each score is
linear in what is taken: `logic.shares` relies on it.
"""

from dataclasses import dataclass

from services.scheduler.logic.fleet import FloatArray, IntArray
from services.scheduler.logic.weighers import cpu, disk, ram


@dataclass(frozen=True, slots=True)
class Weights:
    """One multiplier per weigher."""

    cpu: float = 1.0
    ram: float = 1.0
    disk: float = 1.0


def weigh(target: IntArray, taken: IntArray, weights: Weights) -> FloatArray:
    """The weighted sum of all scores; amounts have three rows and one column per host."""
    return (
        weights.cpu * cpu.score(target, taken)
        + weights.ram * ram.score(target, taken)
        + weights.disk * disk.score(target, taken)
    )
