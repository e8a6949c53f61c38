"""Which hypervisor a driver's name stands for on this machine, and why."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.compute.edges.drivers.libvirt.kvm_probe import ProbeAnswer
from services.domain.errors import Invalid, Unavailable
from services.domain.kinds import Hypervisor

NAMES = ("qemu", "kvm", "libvirt")


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs the guests, and why."""

    hypervisor: Hypervisor
    reason: str

    @property
    def driver(self) -> str:
        """The name that asks for just this."""
        return self.hypervisor.name.lower()


async def choose(name: str, ask_kvm: Callable[[], Awaitable[ProbeAnswer]]) -> Choice:
    """`libvirt` means kvm where the probe says yes, else qemu.

    Raises Invalid (DRIVER_UNKNOWN), or Unavailable (KVM_UNUSABLE) if `kvm` was asked for and the
    probe says no.
    """
    if name not in NAMES:
        known = ", ".join(NAMES)
        raise Invalid(
            "DRIVER_UNKNOWN", f"there is no libvirt driver {name!r}: {known}", field="driver"
        )
    if name == "qemu":
        return Choice(Hypervisor.QEMU, "QEMU without KVM was asked for")
    answer = await ask_kvm()
    if answer.usable:
        return Choice(Hypervisor.KVM, answer.reason)
    if name == "kvm":
        raise Unavailable("KVM_UNUSABLE", f"KVM runs no guests here: {answer.reason}")
    return Choice(Hypervisor.QEMU, answer.reason)
