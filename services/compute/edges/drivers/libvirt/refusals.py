"""What libvirt's errors mean: what may succeed later, what is final, what is gone."""

import contextlib
from collections.abc import Iterator

import libvirt

from services.compute.edges.drivers.libvirt.connection import is_lost
from services.compute.flows.ports import StepFailed
from services.runtime.log import logger

# Another step of the same guest is under way or was quicker, or QEMU is slow to answer.
_MAY_SUCCEED_LATER = frozenset(
    {
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        libvirt.VIR_ERR_RESOURCE_BUSY,
    }
)


@contextlib.contextmanager
def gone_is_fine() -> Iterator[None]:
    """Where the domain has vanished meanwhile there is nothing to do."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


@contextlib.contextmanager
def moved_on_is_fine() -> Iterator[None]:
    """Where the domain has come to another state meanwhile, the next look says so."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise


@contextlib.contextmanager
def refusal_is_final() -> Iterator[None]:
    """What QEMU or the check of the description says once, it says again: raises StepFailed."""
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
