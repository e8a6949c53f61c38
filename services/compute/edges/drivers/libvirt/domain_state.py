"""What libvirt's states of a domain mean for the guest in it."""

from typing import Any

import libvirt

from services.compute.edges.drivers.libvirt.guest_metadata import GuestMetadata, read_metadata
from services.domain.instance import Power

_ON = frozenset(
    {
        libvirt.VIR_DOMAIN_RUNNING,
        libvirt.VIR_DOMAIN_BLOCKED,
        libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_DOMAIN_SHUTDOWN,
        libvirt.VIR_DOMAIN_PMSUSPENDED,
    }
)
# A guest that does not run yet, and will not if libvirtd was killed just then.
STARTING = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
# libvirtd's own, and over by themselves.
_IN_PASSING = frozenset(
    {
        libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
        libvirt.VIR_DOMAIN_PAUSED_SAVE,
        libvirt.VIR_DOMAIN_PAUSED_DUMP,
        libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT,
        libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT,
        libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN,
    }
)


def power_of(domain: Any) -> Power:
    """Its power switch."""
    state, reason = domain.state()
    if (state, reason) == STARTING:
        return Power.OFF
    if state == libvirt.VIR_DOMAIN_PAUSED and reason not in _IN_PASSING:
        return Power.PAUSED
    if state in _ON:
        return Power.RUNNING
    if domain.hasManagedSaveImage(0) == 1:
        return Power.SUSPENDED
    if state == libvirt.VIR_DOMAIN_CRASHED or (
        state == libvirt.VIR_DOMAIN_SHUTOFF and reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED
    ):
        return Power.CRASHED
    return Power.OFF


def incarnation_of(domain: Any, power: Power, carried: GuestMetadata) -> str:
    """Names this run of it; "" while it is off.

    The number is libvirt's and tells apart a start that was not ours; alone it would come again
    after a libvirtd without guests was restarted.
    """
    match power:
        case Power.OFF | Power.CRASHED:
            return ""
        case Power.SUSPENDED:
            return f"kept.{carried.started}"
    live = read_metadata(domain.XMLDesc(0))
    return f"{'' if live is None else live.started}.{domain.ID()}"
