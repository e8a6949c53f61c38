"""Goal: each filter says of each host what a plain reading of its rule says.

Method: random fleets.
"""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.logic.explain import rejections_of
from services.scheduler.logic.filters import FILTERS
from services.scheduler.logic.fleet import HostRow
from services.scheduler.logic.request import Shape
from tests.unit.scheduler import fleets

RULES = {
    "enabled": lambda h, s: h.enabled,
    "up": lambda h, s: h.up,
    "capacity_vcpus": lambda h, s: h.used.vcpus + s.resources.vcpus <= h.target.vcpus,
    "capacity_memory": lambda h, s: (
        h.used.memory_mib + s.resources.memory_mib <= h.target.memory_mib
    ),
    "capacity_disk": lambda h, s: h.used.disk_gib + s.resources.disk_gib <= h.target.disk_gib,
    "architecture": lambda h, s: s.architecture in h.architectures,
    "image_kind": lambda h, s: h.hypervisor is not None and s.image_kind in h.image_kinds,
    "excluded": lambda h, s: h.id not in s.excluded_host_ids,
}


@given(st.lists(fleets.ROWS, max_size=12), fleets.SHAPES)
def test_every_filter_judges_every_host_by_its_own_rule(rows: list[HostRow], shape: Shape) -> None:
    rows = [dataclasses.replace(row, id=f"host-{n}") for n, row in enumerate(rows)]
    hosts = fleets.fleet_of(*rows).hosts
    assert [name for name, _ in FILTERS] == list(RULES)
    masks = [passes(hosts, shape) for _, passes in FILTERS]
    for (name, _), mask, rejection in zip(FILTERS, masks, rejections_of(masks), strict=True):
        expected = [bool(RULES[name](row, shape)) for row in rows]
        assert mask.tolist() == expected
        assert rejection.filter == name
        assert rejection.hosts == expected.count(False)


def test_a_host_that_fails_two_filters_is_counted_by_both() -> None:
    fleet = fleets.fleet_of(fleets.row(up=False, enabled=False))
    masks = [passes(fleet.hosts, fleets.shape()) for _, passes in FILTERS]
    counts = {r.filter: r.hosts for r in rejections_of(masks) if r.hosts}
    assert counts == {"enabled": 1, "up": 1}
