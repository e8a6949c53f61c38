"""The formula that the weighers share."""

import numpy as np

from services.scheduler.logic.fleet import FloatArray, IntArray


def free_share(target: IntArray, taken: IntArray) -> FloatArray:
    """(target - taken) / target for each host: 0 to 1, negative where more is taken than there is.

    A host whose target is 0 has nothing free. Source: "least allocated" scoring of the Kubernetes
    scheduler, (capacity - requested) / capacity, with the ledger's target as capacity, and without
    its cut to whole numbers.
    """
    share: FloatArray = (target - taken) / np.maximum(target, 1)
    return share
