"""A guest of the fake driver, for tests of what it does and of where it is kept."""

from services.compute.edges.drivers.fake_guest import FakeGuest

GUEST = FakeGuest(
    cloud_id="c",
    instance_id="i",
    epoch=1,
    name="a",
    project_id="p",
    image="",
    vcpus=1,
    memory_mib=1,
    disk_gib=1,
    prepared=True,
    power=1,
    applied_generation=1,
    starts=1,
    console="",
)
