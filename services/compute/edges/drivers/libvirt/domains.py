"""Guests as domains of libvirt: each function is one blocking step, run in a connection's thread.

Owns which domains are this cloud's. Does not own their power switch (domain_switch) nor files.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import libvirt

from services.compute.edges.drivers.libvirt.domain_state import incarnation_of, power_of
from services.compute.edges.drivers.libvirt.guest_metadata import (
    NAMESPACE,
    PREFIX,
    GuestMetadata,
    metadata_text,
    read_metadata,
)
from services.compute.edges.drivers.libvirt.refusals import gone_is_fine, refusal_is_final
from services.compute.logic.guest import Guest, Identity
from services.domain.errors import Conflict, NotFound

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
    with refusal_is_final():
        connection.defineXMLFlags(description, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)


def domain_exists(connection: Any, identity: Identity) -> bool:
    """Whether the guest is defined; raises Conflict if another one has its UUID."""
    return _find(connection, identity) is not None


def domain_mark(connection: Any, identity: Identity, generation: int) -> None:
    """Writes the applied generation into the domain, for now and for after its next start."""
    domain = get(connection, identity)
    metadata = metadata_of(domain)
    if metadata is None or metadata.applied_generation >= generation:
        return
    if domain.isPersistent() == 1:
        marked = replace(metadata, applied_generation=generation)
        write(domain, marked, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    live = read_metadata(domain.XMLDesc(0))
    if domain.isActive() == 1 and live is not None:
        marked = replace(live, applied_generation=generation)
        write(domain, marked, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def domain_console(connection: Any, identity: Identity) -> str | None:
    """The path of the terminal that is the guest's serial console; None if it does not run."""
    domain = own(connection, identity)
    if domain is None or domain.isActive() != 1:
        return None
    description = ElementTree.fromstring(domain.XMLDesc(0))  # noqa: S314  # libvirtd's own
    source = description.find("devices/serial[@type='pty']/source")
    return None if source is None else source.get("path")


def domain_undefine(connection: Any, identity: Identity) -> None:
    """Removes the definition, if there is one; raises Conflict while the guest runs."""
    domain = own(connection, identity)
    if domain is None:
        return
    if domain.isActive() == 1:
        raise Conflict("GUEST_RUNS", f"the guest {identity.instance_id} runs: stop it first")
    with gone_is_fine():
        domain.undefineFlags(_UNDEFINE)


def _guests(domains: Iterable[Any], cloud_id: str) -> list[Guest]:
    guests = []
    for domain in domains:
        with gone_is_fine():
            metadata = metadata_of(domain)
            if metadata is not None and metadata.identity.cloud_id == cloud_id:
                power = power_of(domain)
                run = incarnation_of(domain, power, metadata)
                guests.append(
                    Guest(metadata.identity, True, power, metadata.applied_generation, run)
                )
    return guests


def get(connection: Any, identity: Identity) -> Any:
    """The guest's domain. Raises NotFound (GUEST_NOT_FOUND)."""
    domain = own(connection, identity)
    if domain is None:
        raise NotFound("GUEST_NOT_FOUND", f"there is no guest {identity}")
    return domain


def _find(connection: Any, identity: Identity) -> Any | None:
    domain = _lookup(connection, identity.instance_id)
    if domain is None:
        return None
    metadata = metadata_of(domain)
    if metadata is None or metadata.identity != identity:
        raise Conflict("GUEST_OF_OTHER_CLAIM", f"another guest has the id {identity.instance_id}")
    return domain


def own(connection: Any, identity: Identity) -> Any | None:
    """The guest's domain, None where there is none or another claim's."""
    domain = _lookup(connection, identity.instance_id)
    if domain is None:
        return None
    metadata = metadata_of(domain)
    return domain if metadata is not None and metadata.identity == identity else None


def _lookup(connection: Any, instance_id: str) -> Any | None:
    try:
        return connection.lookupByUUIDString(instance_id)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def metadata_of(domain: Any) -> GuestMetadata | None:
    """What the guest carries."""
    # The inactive description, since what stands there outlives the machine.
    return read_metadata(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def write(domain: Any, metadata: GuestMetadata, where: int) -> None:
    """Writes what the guest carries, into its definition or what runs of it."""
    text = metadata_text(metadata)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, PREFIX, NAMESPACE, where)
