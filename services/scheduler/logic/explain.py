"""What an answer says of the hosts that were not taken.

Owns counting; the filters own the reasons.
"""

from collections.abc import Sequence

import numpy as np

from services.scheduler.logic.filters import FILTERS
from services.scheduler.logic.fleet import BoolArray
from services.scheduler.logic.request import Rejection


def rejections_of(masks: Sequence[BoolArray]) -> tuple[Rejection, ...]:
    """For each filter, in their order, how many of all hosts it rejected.

    `masks` are the filters' answers.
    """
    return tuple(
        Rejection(name, mask.size - int(np.count_nonzero(mask)))
        for (name, _), mask in zip(FILTERS, masks, strict=True)
    )
