"""The description of a guest for libvirt, built by an XML library from allow-listed values.

Owns the guest's virtual machine. Does not own the files that it names.
"""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from services.compute.edges.drivers.libvirt.guest_metadata import (
    NAMESPACE,
    PREFIX,
    GuestMetadata,
    domain_name,
    metadata_element,
)
from services.domain.kinds import Architecture, Hypervisor, ImageKind

DISK_FORMATS = {ImageKind.QCOW2: "qcow2", ImageKind.RAW: "raw"}
VCPUS_MAX = 255
MEMORY_MIB_MAX = 2**26
TEXT_MAX = 4096

_MACHINES = {Architecture.X86_64: ("x86_64", "pc"), Architecture.AARCH64: ("aarch64", "virt")}


@dataclass(frozen=True, slots=True)
class DirectBoot:
    """A kernel that the hypervisor loads itself."""

    kernel: Path
    initrd: Path
    cmdline: str


@dataclass(frozen=True, slots=True)
class BackingImage:
    """The image under a guest's disk."""

    path: Path
    kind: ImageKind


@dataclass(frozen=True, slots=True)
class Machine:
    """All that libvirt is told of one guest; exactly one of `direct_boot` and `backing` is set."""

    metadata: GuestMetadata
    hypervisor: Hypervisor
    architecture: Architecture
    vcpus: int
    memory_mib: int
    disk: Path
    config_drive: Path
    console_log: Path
    direct_boot: DirectBoot | None = None
    backing: BackingImage | None = None


def domain_xml(machine: Machine) -> str:
    """The domain's description; raises ValueError for a value that may not stand in one."""
    if not 1 <= machine.vcpus <= VCPUS_MAX or not 1 <= machine.memory_mib <= MEMORY_MIB_MAX:
        raise ValueError(f"no such machine: {machine.vcpus} vCPUs, {machine.memory_mib} MiB")
    ElementTree.register_namespace(PREFIX, NAMESPACE)
    identity = machine.metadata.identity
    kvm = machine.hypervisor is Hypervisor.KVM
    domain = ElementTree.Element("domain", type="kvm" if kvm else "qemu")
    _add(domain, "metadata").append(metadata_element(machine.metadata))
    _add(domain, "name", text=domain_name(identity))
    _add(domain, "uuid", text=identity.instance_id)
    _add(domain, "memory", unit="MiB", text=str(machine.memory_mib))
    _add(domain, "vcpu", text=str(machine.vcpus))
    _add_boot(domain, machine)
    features = _add(domain, "features")
    if machine.architecture is Architecture.X86_64:
        _add(features, "acpi")
        _add(features, "apic")
    _add(domain, "cpu", mode="host-passthrough" if kvm else "maximum")
    _add(domain, "clock", offset="utc")
    _add(domain, "on_poweroff", text="destroy")
    _add(domain, "on_reboot", text="restart")
    _add(domain, "on_crash", text="destroy")
    _add_devices(domain, machine)
    return ElementTree.tostring(domain, encoding="unicode")


def _add_boot(domain: ElementTree.Element, machine: Machine) -> None:
    arch, board = _MACHINES[machine.architecture]
    system = _add(domain, "os")
    _add(system, "type", arch=arch, machine=board, text="hvm")
    if machine.direct_boot is None:
        _add(system, "boot", dev="hd")
        return
    _add(system, "kernel", text=_path(machine.direct_boot.kernel))
    _add(system, "initrd", text=_path(machine.direct_boot.initrd))
    _add(system, "cmdline", text=_text(machine.direct_boot.cmdline))


def _add_devices(domain: ElementTree.Element, machine: Machine) -> None:
    devices = _add(domain, "devices")
    disk = _add_disk(devices, machine.disk, target="vda", file_format="qcow2")
    if machine.backing is not None:
        # Said here, so that no header of a file is asked for the next link of the chain.
        backing = _add(disk, "backingStore", type="file")
        _add(backing, "format", type=DISK_FORMATS[machine.backing.kind])
        _add(backing, "source", file=_path(machine.backing.path))
        _add(backing, "backingStore")
    else:
        _add(disk, "backingStore")
    config_drive = _add_disk(devices, machine.config_drive, target="vdb", file_format="raw")
    _add(config_drive, "readonly")
    _add(devices, "controller", type="usb", model="none")
    serial = _add(devices, "serial", type="pty")
    _add(serial, "log", file=_path(machine.console_log), append="on")
    _add(serial, "target", port="0")
    _add(_add(devices, "console", type="pty"), "target", type="serial", port="0")
    _add(devices, "memballoon", model="virtio")
    # Without it the guest's ssh server waits minutes for entropy.
    rng = _add(devices, "rng", model="virtio")
    _add(rng, "backend", model="random", text="/dev/urandom")


def _add_disk(
    devices: ElementTree.Element, path: Path, *, target: str, file_format: str
) -> ElementTree.Element:
    disk = _add(devices, "disk", type="file", device="disk")
    _add(disk, "driver", name="qemu", type=file_format)
    _add(disk, "source", file=_path(path))
    _add(disk, "target", dev=target, bus="virtio")
    return disk


def _add(
    parent: ElementTree.Element, tag: str, *, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _path(path: Path) -> str:
    if not path.is_absolute():
        raise ValueError(f"not an absolute path: {path}")
    return _text(str(path))


def _text(text: str) -> str:
    if len(text) > TEXT_MAX or not text.isprintable():
        raise ValueError("a text for a guest's description is too long or has control characters")
    return text
