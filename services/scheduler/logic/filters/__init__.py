"""The filters: each says of all hosts at once which could take a shape.

A new one is a file with `passes(hosts, shape)` and a line here. Every filter looks at every host,
whatever the others said, so that a refusal can name all that stood in the way.
"""

from collections.abc import Callable

from services.scheduler.logic.filters import (
    architecture,
    capacity_disk,
    capacity_memory,
    capacity_vcpus,
    enabled,
    excluded,
    image_kind,
    up,
)
from services.scheduler.logic.fleet import BoolArray, Hosts
from services.scheduler.logic.request import Shape

Filter = Callable[[Hosts, Shape], BoolArray]

FILTERS: tuple[tuple[str, Filter], ...] = (
    ("enabled", enabled.passes),
    ("up", up.passes),
    ("capacity_vcpus", capacity_vcpus.passes),
    ("capacity_memory", capacity_memory.passes),
    ("capacity_disk", capacity_disk.passes),
    ("architecture", architecture.passes),
    ("image_kind", image_kind.passes),
    ("excluded", excluded.passes),
)
