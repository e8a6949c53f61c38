"""The weigher `ram`: more free memory scores higher; a negative weight turns it round."""

from services.scheduler.logic.fleet import MEMORY, FloatArray, IntArray
from services.scheduler.logic.weighers.free_share import free_share


def score(target: IntArray, taken: IntArray) -> FloatArray:
    """The share of each host's memory that is free; 0 to 1. Source: `free_share`."""
    return free_share(target[MEMORY], taken[MEMORY])
