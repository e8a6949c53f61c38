"""Guests as domains of libvirt: each function is one blocking step, run in a connection's thread.

Owns which domains are this cloud's, and what libvirt's states and errors mean. Does not own files.
"""

import contextlib
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import libvirt

from services.compute.edges.drivers.libvirt.connection import is_lost
from services.compute.edges.drivers.libvirt.guest_metadata import (
    NAMESPACE,
    PREFIX,
    GuestMetadata,
    metadata_text,
    read_metadata,
)
from services.compute.flows.ports import StepFailed
from services.compute.logic.guest import Guest, Identity
from services.domain.errors import Conflict, NotFound
from services.domain.instance import Power
from services.runtime.log import logger

# libvirtd waits 30 s for the monitor of a QEMU that it does not know to be dead.
HALF_STARTED_S = 45.0
LOOK_AGAIN_S = 0.1

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
_STARTING = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP)
# Another step of the same guest is under way or was quicker, or QEMU is slow to answer.
_MAY_SUCCEED_LATER = frozenset(
    {
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        libvirt.VIR_ERR_RESOURCE_BUSY,
    }
)
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


def hypervisor_version(connection: Any) -> str:
    """QEMU's release, as major.minor.micro."""
    number = connection.getVersion()
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def domains_list(connection: Any, cloud_id: str) -> list[Guest]:
    """The domains that carry the cloud's id."""
    return _guests(connection.listAllDomains(0), cloud_id)


def domain_of(connection: Any, cloud_id: str, instance_id: str) -> list[Guest]:
    """The instance's domain, if there is one that carries the cloud's id."""
    domain = _lookup(connection, instance_id)
    return [] if domain is None else _guests([domain], cloud_id)


def domain_define(connection: Any, identity: Identity, description: str) -> None:
    """Defines a domain that is not there yet; raises StepFailed if libvirt refuses it."""
    if _find(connection, identity) is not None:
        return
    with _refusal_is_final():
        connection.defineXMLFlags(description, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)


def domain_exists(connection: Any, identity: Identity) -> bool:
    """Whether the guest is defined; raises Conflict if another one has its UUID."""
    return _find(connection, identity) is not None


def domain_start(connection: Any, identity: Identity) -> None:
    """Switches the domain on; raises NotFound, or StepFailed if QEMU refuses it.

    A start that a killed libvirtd left half-way is first waited for: the next libvirtd ends it.
    """
    domain = _get(connection, identity)
    give_up_at = time.monotonic() + HALF_STARTED_S
    while tuple(domain.state()) == _STARTING and time.monotonic() < give_up_at:
        time.sleep(LOOK_AGAIN_S)
    if _power(domain) is Power.RUNNING:
        return
    metadata = _metadata(domain)
    if metadata is not None:
        # What runs takes the name of its start with it: the next one has another.
        config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        _write(domain, replace(metadata, started=uuid.uuid4().hex), config)
    with _refusal_is_final():
        domain.createWithFlags(0)


def domain_mark(connection: Any, identity: Identity, generation: int) -> None:
    """Writes the applied generation into the domain, for now and for after its next start."""
    domain = _get(connection, identity)
    metadata = _metadata(domain)
    if metadata is None or metadata.applied_generation >= generation:
        return
    if domain.isPersistent() == 1:
        marked = replace(metadata, applied_generation=generation)
        _write(domain, marked, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    live = read_metadata(domain.XMLDesc(0))
    if domain.isActive() == 1 and live is not None:
        marked = replace(live, applied_generation=generation)
        _write(domain, marked, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def domain_ask_to_stop(connection: Any, identity: Identity) -> None:
    """Presses the ACPI power button, if there is such a domain and it runs."""
    domain = _own(connection, identity)
    if domain is None or domain.isActive() != 1:
        return
    try:
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise


def domain_console(connection: Any, identity: Identity) -> str | None:
    """The path of the terminal that is the guest's serial console; None if it does not run."""
    domain = _own(connection, identity)
    if domain is None or domain.isActive() != 1:
        return None
    description = ElementTree.fromstring(domain.XMLDesc(0))  # noqa: S314  # libvirtd's own
    source = description.find("devices/serial[@type='pty']/source")
    return None if source is None else source.get("path")


def domain_stop(connection: Any, identity: Identity) -> None:
    """Pulls the plug, if there is such a domain and it runs."""
    domain = _own(connection, identity)
    if domain is None or domain.isActive() != 1:
        return
    try:
        domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise


def domain_undefine(connection: Any, identity: Identity) -> None:
    """Removes the definition, if there is one; raises Conflict while the guest runs."""
    domain = _own(connection, identity)
    if domain is None:
        return
    if domain.isActive() == 1:
        raise Conflict("GUEST_RUNS", f"the guest {identity.instance_id} runs: stop it first")
    with _gone_is_fine():
        domain.undefineFlags(_UNDEFINE)


def _guests(domains: Iterable[Any], cloud_id: str) -> list[Guest]:
    guests = []
    for domain in domains:
        with _gone_is_fine():
            metadata = _metadata(domain)
            if metadata is not None and metadata.identity.cloud_id == cloud_id:
                power = _power(domain)
                run = _incarnation(domain) if power is Power.RUNNING else ""
                guests.append(
                    Guest(metadata.identity, True, power, metadata.applied_generation, run)
                )
    return guests


def _get(connection: Any, identity: Identity) -> Any:
    domain = _own(connection, identity)
    if domain is None:
        raise NotFound("GUEST_NOT_FOUND", f"there is no guest {identity}")
    return domain


def _find(connection: Any, identity: Identity) -> Any | None:
    domain = _lookup(connection, identity.instance_id)
    if domain is None:
        return None
    metadata = _metadata(domain)
    if metadata is None or metadata.identity != identity:
        raise Conflict("GUEST_OF_OTHER_CLAIM", f"another guest has the id {identity.instance_id}")
    return domain


def _own(connection: Any, identity: Identity) -> Any | None:
    domain = _lookup(connection, identity.instance_id)
    if domain is None:
        return None
    metadata = _metadata(domain)
    return domain if metadata is not None and metadata.identity == identity else None


def _lookup(connection: Any, instance_id: str) -> Any | None:
    try:
        return connection.lookupByUUIDString(instance_id)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _metadata(domain: Any) -> GuestMetadata | None:
    # The inactive description, since what stands there outlives the machine.
    return read_metadata(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def _write(domain: Any, metadata: GuestMetadata, where: int) -> None:
    text = metadata_text(metadata)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, PREFIX, NAMESPACE, where)


def _incarnation(domain: Any) -> str:
    # The number is libvirt's and tells apart a start that was not ours; alone it would come again
    # after a libvirtd without guests was restarted.
    live = read_metadata(domain.XMLDesc(0))
    return f"{'' if live is None else live.started}.{domain.ID()}"


def _power(domain: Any) -> Power:
    state, reason = domain.state()
    if (state, reason) == _STARTING:
        return Power.OFF
    if state in _ON:
        return Power.RUNNING
    if state == libvirt.VIR_DOMAIN_CRASHED or (
        state == libvirt.VIR_DOMAIN_SHUTOFF and reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED
    ):
        return Power.CRASHED
    return Power.OFF


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


@contextlib.contextmanager
def _refusal_is_final() -> Iterator[None]:
    # What QEMU or the check of the description says once, it says again.
    try:
        yield
    except libvirt.libvirtError as error:
        if is_lost(error) or error.get_error_code() in _MAY_SUCCEED_LATER:
            raise
        # Its words can name files of the host: they are for the host's log, not for the owner.
        logger().error("the hypervisor refused", error=str(error))
        raise StepFailed(
            "HYPERVISOR_REFUSED", "the hypervisor refused the guest; the host's log says why"
        ) from error
