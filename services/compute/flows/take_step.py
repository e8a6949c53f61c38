"""Does one step of the plan with the driver. Does not choose it, nor bear its failure."""

from services.compute.flows.ports import Driver, GuestSpec, ImageFile
from services.compute.logic.guest import Identity
from services.compute.logic.plan import Step, StepKind
from services.compute.logic.wanted import Wanted


class RestingError(Exception):
    """No step is begun any more."""


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
        case StepKind.START:
            await driver.start_guest(identity)
        case StepKind.MARK_APPLIED:
            await driver.mark_applied(identity, step.wanted.generation)
        case StepKind.ASK:
            await driver.ask_guest_to_stop(identity)
        case StepKind.STOP:
            await driver.stop_guest(identity)
        case StepKind.ERASE:
            await driver.erase_guest(identity)


def _guest_spec(wanted: Wanted) -> GuestSpec:
    spec = wanted.spec
    return GuestSpec(
        name=spec.name,
        project_id=spec.project_id,
        resources=spec.resources,
        ssh_public_keys=spec.ssh_public_keys,
        user_data=spec.user_data,
    )
