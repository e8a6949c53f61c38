"""How many of n equal requests each host gets: exactly what choosing one after another would give,
without doing so.

After a choice only the chosen host's score changes, and scores are linear in the number of copies:
a host's next score is `first - fall * copies`. Choosing the best one after another therefore takes
entries from one list per host, in the order of the least score seen so far in that list: the level.
Where scores fall with use (spread) the level falls copy by copy; where they rise (pack) a host once
begun stays the best until it is full, so all its copies have the level of the first. So the n
highest levels are the answer, and bisection on the level finds them for all hosts at once. Does not
know requests, hosts or why a score is what it is.
"""

from dataclasses import dataclass

import numpy as np

from services.scheduler.logic.fleet import FloatArray, HashArray, IntArray

# Scores nearer to each other than this are ties.
TIE = 1e-9
# Halves the widest range of levels to less than TIE: 2**-60 of it.
HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Scores:
    """Per host: `first`, the score after one copy; `fall`, by how much each further one lowers it;
    `room` for copies.

    `order` breaks ties, lowest first.
    """

    first: FloatArray
    fall: FloatArray
    room: IntArray
    order: HashArray


def share_out(scores: Scores, wanted: int) -> IntArray:
    """Copies per host, at most `room` each and as near to `wanted` in all as room allows."""
    room = np.minimum(scores.room, wanted)
    if room.sum() <= wanted:
        return room
    low = _level(scores, room, wanted)
    shares = _copies_at(scores, room, low + TIE)
    ties = _copies_at(scores, room, low - TIE) - shares
    tied = np.flatnonzero(ties)
    tied = tied[np.argsort(scores.order[tied], kind="stable")]
    before = np.cumsum(ties[tied]) - ties[tied]
    shares[tied] += np.clip(wanted - shares.sum() - before, 0, ties[tied])
    return shares


def _level(scores: Scores, room: IntArray, wanted: int) -> float:
    """The level of the last copy that is chosen, within less than TIE from below."""
    first = scores.first[room > 0]
    high = float(first.max())
    if len(first) >= wanted:
        # So many hosts have a copy at this level or above; those below it get none.
        low = float(np.partition(first, -wanted)[-wanted])
    else:
        low = float((scores.first - np.maximum(scores.fall, 0) * np.maximum(room - 1, 0)).min())
    near = np.flatnonzero((room > 0) & (scores.first >= low - TIE))
    candidates = Scores(
        scores.first[near], scores.fall[near], scores.room[near], scores.order[near]
    )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if high - low < TIE / 4:
            break
        if _copies_at(candidates, room[near], middle).sum() >= wanted:
            low = middle
        else:
            high = middle
    return low


def _copies_at(scores: Scores, room: IntArray, level: float) -> IntArray:
    """How many copies of each host have at least this level."""
    above = scores.first - level
    steps = np.divide(above, scores.fall, out=np.full(above.shape, np.inf), where=scores.fall > 0)
    copies = np.minimum(np.floor(steps) + 1, room)
    return np.where(above >= 0, copies, 0).astype(np.int64)
