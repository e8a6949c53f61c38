"""Makes the files of a guest, and the definition that names them. Blocks."""

import errno
from pathlib import Path

from services.compute.edges.drivers.config_drive import write_config_drive
from services.compute.edges.drivers.libvirt.domain_xml import BackingImage, Machine, domain_xml
from services.compute.edges.drivers.libvirt.guest_folder import GuestFolder, whole_file
from services.compute.edges.drivers.libvirt.guest_metadata import GuestMetadata
from services.compute.edges.drivers.libvirt.kernel_image import unpack_kernel
from services.compute.edges.drivers.libvirt.qemu_img import make_disk
from services.compute.flows.ports import GuestSpec, ImageFile, StepFailed
from services.compute.logic.guest import Identity
from services.domain.kinds import Architecture, Hypervisor, ImageKind


class GuestMaker:
    """Makes guests under `state_dir`, for one hypervisor and processor."""

    def __init__(self, state_dir: Path, hypervisor: Hypervisor, architecture: Architecture) -> None:
        self._state_dir = state_dir
        self._hypervisor = hypervisor
        self._architecture = architecture

    def make(self, identity: Identity, spec: GuestSpec, image: ImageFile) -> str:
        """Its disk and config drive; gives its definition. Raises StepFailed."""
        try:
            return self._describe(identity, spec, image)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StepFailed("STORAGE_FULL", "the host has no room for the guest") from error
            raise
        except ValueError as error:
            raise StepFailed("GUEST_UNSUPPORTED", str(error)) from error

    def _describe(self, identity: Identity, spec: GuestSpec, image: ImageFile) -> str:
        if image.architecture is not self._architecture:
            raise StepFailed(
                "ARCHITECTURE_UNSUPPORTED", f"the image is for {image.architecture.name}"
            )
        folder = GuestFolder(self._state_dir, identity.instance_id)
        folder.claim(identity)
        direct_boot = backing = None
        if image.kind is ImageKind.KERNEL:
            direct_boot = unpack_kernel(self._state_dir, image.path)
        else:
            backing = BackingImage(image.path.absolute(), image.kind)
        if not folder.disk.exists():
            with whole_file(folder.disk) as path:
                make_disk(path, spec.resources.disk_gib, backing)
        with whole_file(folder.config_drive) as path:
            write_config_drive(path, identity.instance_id, spec)
        machine = Machine(
            metadata=GuestMetadata(identity, applied_generation=0),
            hypervisor=self._hypervisor,
            architecture=image.architecture,
            vcpus=spec.resources.vcpus,
            memory_mib=spec.resources.memory_mib,
            disk=folder.disk,
            config_drive=folder.config_drive,
            console_log=folder.console_log,
            direct_boot=direct_boot,
            backing=backing,
        )
        return domain_xml(machine)
