"""The filter `excluded`: no build of this instance failed on the host."""

import numpy as np

from services.scheduler.logic.fleet import BoolArray, Hosts
from services.scheduler.logic.request import Shape


def passes(hosts: Hosts, shape: Shape) -> BoolArray:
    """True for all but the excluded hosts; ids of hosts that are gone exclude nobody."""
    mask = np.ones(hosts.up.shape, np.bool_)
    excluded = [hosts.slots[i] for i in shape.excluded_host_ids if i in hosts.slots]
    mask[excluded] = False
    return mask
