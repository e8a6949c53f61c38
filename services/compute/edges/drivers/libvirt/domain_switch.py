"""The power switch of a guest: each function is one blocking step, run in a connection's thread."""

import time
import uuid
from dataclasses import replace
from typing import Any

import libvirt

from services.compute.edges.drivers.libvirt.domain_state import STARTING, power_of
from services.compute.edges.drivers.libvirt.domains import get, metadata_of, own, write
from services.compute.edges.drivers.libvirt.refusals import moved_on_is_fine, refusal_is_final
from services.compute.flows.ports import StepFailed
from services.compute.logic.guest import Identity
from services.domain.instance import ALIVE, Power

# libvirtd waits 30 s for the monitor of a QEMU that it does not know to be dead.
HALF_STARTED_S = 45.0
LOOK_AGAIN_S = 0.1


def domain_start(connection: Any, identity: Identity) -> None:
    """Switches the domain on; raises NotFound, or StepFailed if QEMU refuses it.

    A start that a killed libvirtd left half-way is first waited for: the next libvirtd ends it.
    """
    domain = get(connection, identity)
    give_up_at = time.monotonic() + HALF_STARTED_S
    while tuple(domain.state()) == STARTING and time.monotonic() < give_up_at:
        time.sleep(LOOK_AGAIN_S)
    if power_of(domain) in ALIVE:
        return
    metadata = metadata_of(domain)
    if metadata is not None:
        # What runs takes the name of its start with it: the next one has another.
        config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        write(domain, replace(metadata, started=uuid.uuid4().hex), config)
    with refusal_is_final():
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_FORCE_BOOT)


def domain_pause(connection: Any, identity: Identity) -> None:
    """Freezes its processors; raises NotFound."""
    domain = get(connection, identity)
    if power_of(domain) is Power.RUNNING:
        with moved_on_is_fine(), refusal_is_final():
            domain.suspend()


def domain_unpause(connection: Any, identity: Identity) -> None:
    """Lets them go on; raises NotFound."""
    domain = get(connection, identity)
    if power_of(domain) is Power.PAUSED:
        with moved_on_is_fine(), refusal_is_final():
            domain.resume()


def domain_suspend(connection: Any, identity: Identity) -> None:
    """Saves its memory in a file of libvirt's and ends it; raises NotFound, or StepFailed where
    that cannot be. It goes on running when it comes back, also if it was frozen.
    """
    domain = get(connection, identity)
    if power_of(domain) in ALIVE:
        with moved_on_is_fine(), refusal_is_final():
            domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)


def domain_resume(connection: Any, identity: Identity) -> None:
    """Starts it from its memory; raises NotFound, or StepFailed (MEMORY_NOT_KEPT)."""
    domain = get(connection, identity)
    power = power_of(domain)
    if power in ALIVE:
        return
    if power is not Power.SUSPENDED:
        raise StepFailed("MEMORY_NOT_KEPT", "nothing is kept of the guest's memory")
    with refusal_is_final():
        domain.createWithFlags(0)


def domain_ask_to_stop(connection: Any, identity: Identity) -> None:
    """Presses the ACPI power button, if there is such a domain and it runs."""
    domain = own(connection, identity)
    if domain is None or domain.isActive() != 1:
        return
    with moved_on_is_fine():
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


def domain_stop(connection: Any, identity: Identity) -> None:
    """Pulls the plug, if there is such a domain and it runs; drops a memory that is kept of it."""
    domain = own(connection, identity)
    if domain is None:
        return
    with moved_on_is_fine():
        if domain.isActive() == 1:
            domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
        if domain.hasManagedSaveImage(0) == 1:
            domain.managedSaveRemove(0)
