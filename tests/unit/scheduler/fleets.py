"""Makes fleets and requests for the tests of scheduler."""

from typing import Any

from hypothesis import strategies as st

from services.domain.kinds import Architecture, Hypervisor, ImageKind
from services.domain.resources import Resources
from services.scheduler.logic.fleet import Fleet, HostRow
from services.scheduler.logic.request import Request, Shape
from services.scheduler.logic.weighers import Weights


def row(host_id: str = "host-a", **fields: Any) -> HostRow:
    return HostRow(
        **{
            "id": host_id,
            "revision": 1,
            "up": True,
            "enabled": True,
            "target": Resources(8, 8192, 100),
            "used": Resources(0, 0, 0),
            "claims": 0,
            "architectures": (Architecture.X86_64,),
            "hypervisor": Hypervisor.FAKE,
            "image_kinds": (ImageKind.QCOW2, ImageKind.RAW, ImageKind.KERNEL),
            **fields,
        }
    )


def fleet_of(*rows: HostRow) -> Fleet:
    fleet = Fleet(columns=1)
    fleet.host_replace_all(rows, 1)
    return fleet


SMALL = Resources(1, 512, 10)


def shape(resources: Resources = SMALL, **fields: Any) -> Shape:
    return Shape(
        **{
            "resources": resources,
            "architecture": Architecture.X86_64,
            "image_kind": ImageKind.RAW,
            "excluded_host_ids": frozenset(),
            **fields,
        }
    )


def requests(count: int, of: Shape, *, prefix: str = "instance", **fields: Any) -> list[Request]:
    return [
        Request(
            **{"instance_id": f"{prefix}-{n}", "attempt": 1, "min_revision": 0, "shape": of}
            | fields
        )
        for n in range(count)
    ]


AMOUNTS = st.builds(
    Resources, st.integers(0, 6), st.sampled_from([0, 128, 512, 1000]), st.integers(0, 5)
)
TARGETS = st.builds(
    Resources, st.integers(0, 40), st.sampled_from([0, 2048, 4096, 5000]), st.integers(0, 60)
)
USES = st.builds(
    Resources, st.integers(0, 30), st.sampled_from([0, 1000, 2048]), st.integers(0, 30)
)
WEIGHTS = st.builds(
    Weights,
    st.sampled_from([1.0, -1.0, 0.0, 2.5]),
    st.sampled_from([1.0, -1.0, 0.0, -0.5]),
    st.sampled_from([1.0, -1.0, 0.0]),
)
SHAPES = st.builds(
    Shape,
    AMOUNTS,
    st.sampled_from(Architecture),
    st.sampled_from(ImageKind),
    st.frozensets(st.sampled_from(["host-0", "host-1", "host-99"]), max_size=2),
)
ROWS = st.builds(
    row,
    st.just(""),
    up=st.sampled_from([True, True, True, False]),
    enabled=st.sampled_from([True, True, True, False]),
    target=TARGETS,
    used=USES,
    architectures=st.sampled_from([(Architecture.X86_64,), tuple(Architecture), ()]),
    hypervisor=st.sampled_from([*Hypervisor, Hypervisor.QEMU, None]),
    image_kinds=st.sampled_from([tuple(ImageKind), tuple(ImageKind), (ImageKind.RAW,)]),
)

# Hosts and requests that mostly go together, so that the choice between hosts is what is tested.
ABLE_ROWS = st.builds(
    row,
    st.just(""),
    target=st.builds(Resources, st.integers(4, 40), st.integers(4, 60), st.integers(4, 50)),
    used=st.builds(Resources, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)),
)
PLAIN_SHAPES = st.builds(
    shape, st.builds(Resources, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
)
