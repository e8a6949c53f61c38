"""A guest's description says what it was made from, and no value can say more than it should."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compute.edges.drivers.libvirt.domain_xml import (
    BackingImage,
    DirectBoot,
    Machine,
    domain_xml,
)
from services.compute.edges.drivers.libvirt.guest_metadata import (
    GuestMetadata,
    domain_name,
    metadata_text,
    read_metadata,
)
from services.compute.logic.guest import Identity
from services.domain.kinds import Architecture, Hypervisor, ImageKind

IDENTITY = Identity("0123456789ab", "019ab7f2-3c55-7d0e-9a51-0c3f7d5e2b11", 2**62)
MACHINE = Machine(
    metadata=GuestMetadata(IDENTITY, 3),
    hypervisor=Hypervisor.QEMU,
    architecture=Architecture.X86_64,
    vcpus=2,
    memory_mib=192,
    disk=Path("/state/disk.qcow2"),
    config_drive=Path("/state/config.iso"),
    console_log=Path("/state/console.log"),
    direct_boot=DirectBoot(Path("/k/kernel"), Path("/k/initrd"), "console=ttyS0 quiet"),
)


def parsed(machine: Machine) -> ElementTree.Element:
    return ElementTree.fromstring(domain_xml(machine))


def attribute(domain: ElementTree.Element, path: str, name: str) -> str | None:
    element = domain.find(path)
    assert element is not None, path
    return element.get(name)


def test_a_description_says_what_it_was_made_from() -> None:
    domain = parsed(MACHINE)
    assert domain.get("type") == "qemu"
    assert domain.findtext("uuid") == IDENTITY.instance_id
    assert domain.findtext("name") == f"stead-{IDENTITY.cloud_id}-{IDENTITY.instance_id}"
    assert domain.findtext("vcpu") == "2"
    assert attribute(domain, "memory", "unit") == "MiB"
    assert domain.findtext("memory") == "192"
    assert domain.findtext("os/kernel") == "/k/kernel"
    assert domain.findtext("os/initrd") == "/k/initrd"
    assert domain.findtext("os/cmdline") == "console=ttyS0 quiet"
    assert domain.find("os/boot") is None
    assert attribute(domain, "cpu", "mode") == "maximum"
    assert domain.findtext("on_poweroff") == "destroy"
    assert domain.find("devices/interface") is None
    assert attribute(domain, "devices/serial", "type") == "pty"
    assert attribute(domain, "devices/serial/log", "file") == "/state/console.log"
    assert attribute(domain, "devices/rng", "model") == "virtio"
    assert read_metadata(domain_xml(MACHINE)) == MACHINE.metadata


def test_every_disk_says_its_format_and_where_its_chain_ends() -> None:
    image = BackingImage(Path("/cache/image"), ImageKind.RAW)
    for machine in (MACHINE, replace(MACHINE, direct_boot=None, backing=image)):
        disks = parsed(machine).findall("devices/disk")
        formats = [attribute(disk, "driver", "type") for disk in disks]
        assert formats == ["qcow2", "raw"]
        assert disks[0].find(".//backingStore[last()]") is not None
        assert disks[1].find("readonly") is not None
    assert attribute(disks[0], "backingStore/format", "type") == "raw"
    assert attribute(disks[0], "backingStore/source", "file") == "/cache/image"
    innermost = disks[0].find("backingStore/backingStore")
    assert innermost is not None
    assert list(innermost) == []
    assert parsed(machine).find("os/kernel") is None
    assert attribute(parsed(machine), "os/boot", "dev") == "hd"


def test_kvm_gives_the_processor_as_it_is() -> None:
    domain = parsed(replace(MACHINE, hypervisor=Hypervisor.KVM))
    assert domain.get("type") == "kvm"
    assert attribute(domain, "cpu", "mode") == "host-passthrough"


def machine_with_cmdline(cmdline: str) -> Machine:
    return replace(MACHINE, direct_boot=DirectBoot(Path("/k"), Path("/i"), cmdline))


@given(st.text(max_size=200).filter(str.isprintable))
def test_no_text_can_leave_its_element(cmdline: str) -> None:
    domain = parsed(machine_with_cmdline(cmdline))
    assert (domain.findtext("os/cmdline") or "") == cmdline
    assert [e.tag for e in domain.iter()] == [e.tag for e in parsed(MACHINE).iter()]


@pytest.mark.parametrize(
    "machine",
    [
        machine_with_cmdline("a\nb"),
        machine_with_cmdline("a\x00b"),
        machine_with_cmdline("x" * 5000),
        replace(MACHINE, disk=Path("relative")),
        replace(MACHINE, disk=Path("/with\nline")),
        replace(MACHINE, vcpus=0),
        replace(MACHINE, vcpus=256),
        replace(MACHINE, memory_mib=0),
        replace(MACHINE, memory_mib=2**27),
        replace(MACHINE, metadata=GuestMetadata(replace(IDENTITY, cloud_id="../x"), 0)),
        replace(MACHINE, metadata=GuestMetadata(replace(IDENTITY, instance_id="x"), 0)),
        replace(MACHINE, metadata=GuestMetadata(replace(IDENTITY, epoch=-1), 0)),
    ],
)
def test_values_that_may_not_stand_in_a_description_are_refused(machine: Machine) -> None:
    with pytest.raises(ValueError, match=r"not|no such|too long"):
        domain_xml(machine)


def test_names_of_two_clouds_or_two_instances_never_meet() -> None:
    # Ids begin with a clock's digits, so that a part of one would not do.
    later = replace(IDENTITY, instance_id=IDENTITY.instance_id[:-1] + "2")
    elsewhere = replace(IDENTITY, cloud_id="ba9876543210")
    assert len({domain_name(i) for i in (IDENTITY, later, elsewhere)}) == 3


@pytest.mark.parametrize(
    "change",
    [
        ('cloud="0123456789ab"', 'cloud="?"'),
        ('epoch="', 'epoch="x'),
        ('applied-generation="3"', 'applied-generation="-3"'),
        ('applied-generation="3"', ""),
        (IDENTITY.instance_id, "another"),
        ("urn:stead:guest:1", "urn:someone:else"),
    ],
)
def test_a_spoilt_or_foreign_element_is_nobodys(change: tuple[str, str]) -> None:
    spoilt = domain_xml(MACHINE).replace(*change)
    assert read_metadata(spoilt) is None


def test_the_element_for_a_change_is_the_same_without_its_namespace() -> None:
    element = ElementTree.fromstring(metadata_text(MACHINE.metadata))
    assert element.tag == "guest"
    assert element.attrib == {
        "cloud": IDENTITY.cloud_id,
        "instance": IDENTITY.instance_id,
        "epoch": str(IDENTITY.epoch),
        "applied-generation": "3",
        "started": "",
    }


def test_a_guest_of_an_older_release_has_no_name_for_its_start() -> None:
    older = domain_xml(MACHINE).replace(' started=""', "")
    assert read_metadata(older) == MACHINE.metadata
    assert 'started="' not in older
