"""Does one step of the plan with the driver. Does not choose it, nor bear its failure."""

from collections.abc import Awaitable, Callable

from services.compute.flows.ports import Driver, GuestSpec, ImageFile
from services.compute.logic.guest import Identity
from services.compute.logic.plan import Step, StepKind
from services.compute.logic.wanted import Wanted


class RestingError(Exception):
    """No step is begun any more."""


_SIMPLE: dict[StepKind, Callable[[Driver, Identity], Awaitable[None]]] = {
    StepKind.START: lambda driver, guest: driver.start_guest(guest),
    StepKind.PAUSE: lambda driver, guest: driver.pause_guest(guest),
    StepKind.UNPAUSE: lambda driver, guest: driver.unpause_guest(guest),
    StepKind.SUSPEND: lambda driver, guest: driver.suspend_guest(guest),
    StepKind.RESUME: lambda driver, guest: driver.resume_guest(guest),
    StepKind.ASK: lambda driver, guest: driver.ask_guest_to_stop(guest),
    StepKind.STOP: lambda driver, guest: driver.stop_guest(guest),
    StepKind.ERASE: lambda driver, guest: driver.erase_guest(guest),
}


async def take_step(
    driver: Driver, step: Step, *, identity: Identity, image: ImageFile | None
) -> None:
    """Raises what the driver raises. Only to prepare a guest an image is needed."""
    match step.kind:
        case StepKind.PREPARE:
            assert image is not None
            await driver.prepare_guest(identity, _guest_spec(step.wanted), image)
        case StepKind.NOTE:
            assert step.notes is not None
            await driver.write_notes(identity, step.notes)
        case StepKind.MARK_APPLIED:
            await driver.mark_applied(identity, step.wanted.generation)
        case _:
            await _SIMPLE[step.kind](driver, identity)


def _guest_spec(wanted: Wanted) -> GuestSpec:
    spec = wanted.spec
    return GuestSpec(
        name=spec.name,
        project_id=spec.project_id,
        resources=spec.resources,
        ssh_public_keys=spec.ssh_public_keys,
        user_data=spec.user_data,
    )
