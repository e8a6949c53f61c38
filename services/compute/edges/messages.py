"""Between the nouns of compute and the messages of the internal contract.

Bounds are the sender's; no I/O.
"""

from collections.abc import Sequence

from stead.internal.v1 import compute_pb2
from stead.v1 import host_pb2, image_pb2, instance_pb2

from services.compute.flows.console_ports import ConsoleAsk, ConsoleLogAsk, Question
from services.compute.flows.ports import (
    Acknowledged,
    Beat,
    BeatAnswered,
    Capabilities,
    CommandBatch,
    Hello,
    Inventory,
    Saying,
    Superseded,
    Telling,
    ViewWanted,
)
from services.compute.logic.guest import Claim, Guest
from services.compute.logic.observation import Failure
from services.compute.logic.outbox import Numbered
from services.compute.logic.wanted import Image, Spec, View, Wanted
from services.domain.errors import Broken
from services.domain.instance import Power
from services.domain.kinds import Architecture, ImageKind
from services.domain.observation import ObservationOutcome
from services.domain.resources import Overcommit, Resources
from services.domain.trace import trace_from


def saying_to_wire(saying: Saying) -> compute_pb2.StreamInstanceStatesRequest:
    """What a host says, as it travels."""
    match saying:
        case Hello():
            return compute_pb2.StreamInstanceStatesRequest(hello=_hello(saying))
        case Beat(bus_silent):
            beat = compute_pb2.Beat(bus_silent=bus_silent)
            return compute_pb2.StreamInstanceStatesRequest(beat=beat)
        case ViewWanted():
            return compute_pb2.StreamInstanceStatesRequest(view_wanted=compute_pb2.ViewWanted())
        case Inventory():
            return compute_pb2.StreamInstanceStatesRequest(inventory=_inventory(saying))
        case _:
            return compute_pb2.StreamInstanceStatesRequest(observations=_observations(saying))


def telling_from_wire(message: compute_pb2.StreamInstanceStatesResponse) -> Telling:
    """What a host is told. Raises Broken (TELLING_UNKNOWN)."""
    match message.WhichOneof("telling"):
        case "view":
            return _view(message.view)
        case "acknowledgements":
            return Acknowledged(
                tuple(
                    (r.sequence, ObservationOutcome(r.outcome))
                    for r in message.acknowledgements.results
                )
            )
        case "beat_answer":
            return BeatAnswered(message.beat_answer.wanted_revision)
        case "superseded":
            return Superseded()
        case other:
            raise Broken("TELLING_UNKNOWN", f"the host was told {other}")


def command_batch_from_wire(payload: bytes) -> CommandBatch:
    """A command as it came over the bus. Raises if it is malformed."""
    batch = compute_pb2.CommandBatch.FromString(payload)
    wanted = tuple(map(_wanted, batch.wanted))
    return CommandBatch(batch.host_id, batch.incarnation, wanted, batch.inventory_as_of)


def question_from_wire(payload: bytes) -> Question:
    """A question as it came over the bus.

    Raises if it is malformed or asks what this agent does not know.
    """
    question = compute_pb2.Question.FromString(payload)
    return Question(
        ticket=question.ticket,
        endpoint=question.ingress_endpoint,
        claim=Claim(question.instance_id, question.epoch),
        ask=_ask(question),
    )


def _ask(question: compute_pb2.Question) -> ConsoleLogAsk | ConsoleAsk:
    match question.WhichOneof("ask"):
        case "console_log":
            return ConsoleLogAsk(question.console_log.max_bytes)
        case "console":
            console = question.console
            offset = console.offset if console.HasField("offset") else None
            return ConsoleAsk(offset, write=console.write, take_over=console.take_over)
        case _:
            raise Broken("QUESTION_UNKNOWN", "the agent is older than the question")


def failure_to_wire(failure: Failure) -> compute_pb2.Failure:
    """Why something could not be done, as it travels; long messages are cut."""
    return compute_pb2.Failure(
        reason=failure.reason, message=failure.message[:1024], generation=failure.generation
    )


def _hello(hello: Hello) -> compute_pb2.Hello:
    profile = hello.profile
    return compute_pb2.Hello(
        host_id=profile.host_id,
        machine_id=profile.machine_id,
        boot_id=profile.boot_id,
        agent_version=profile.agent_version,
        capacity=_resources(hello.capacity),
        reserved=_resources(profile.reserved),
        overcommit=_overcommit(profile.overcommit),
        capabilities=_capabilities(hello.capabilities),
        guests=map(_guest, hello.guests),
    )


def _inventory(inventory: Inventory) -> compute_pb2.Inventory:
    return compute_pb2.Inventory(
        guests=map(_guest, inventory.guests),
        number=inventory.number,
        as_of_revision=inventory.as_of_revision,
        cut_short=inventory.cut_short,
    )


def _guest(guest: Guest) -> compute_pb2.Guest:
    return compute_pb2.Guest(
        instance_id=guest.identity.instance_id,
        epoch=guest.identity.epoch,
        applied_generation=guest.applied_generation,
        power=_power(guest.power),
    )


def _power(power: Power) -> instance_pb2.InstancePower.ValueType:
    return instance_pb2.InstancePower.ValueType(power.value)


def _resources(resources: Resources) -> host_pb2.Resources:
    return host_pb2.Resources(
        vcpus=resources.vcpus, memory_mib=resources.memory_mib, disk_gib=resources.disk_gib
    )


def _overcommit(ratio: Overcommit) -> host_pb2.OvercommitRatio:
    return host_pb2.OvercommitRatio(
        vcpus_permille=ratio.vcpus_permille,
        memory_permille=ratio.memory_permille,
        disk_permille=ratio.disk_permille,
    )


def _capabilities(capabilities: Capabilities) -> host_pb2.DriverCapabilities:
    return host_pb2.DriverCapabilities(
        driver=capabilities.driver,
        hypervisor=host_pb2.HypervisorKind.ValueType(capabilities.hypervisor.value),
        hypervisor_version=capabilities.hypervisor_version,
        choice_reason=capabilities.choice_reason,
        image_kinds=[image_pb2.ImageKind.ValueType(k.value) for k in capabilities.image_kinds],
        architectures=[
            image_pb2.Architecture.ValueType(a.value) for a in capabilities.architectures
        ],
        console_output=capabilities.console_output,
        config_drive=capabilities.config_drive,
        graceful_stop=capabilities.graceful_stop,
        pause=capabilities.pause,
        suspend=capabilities.suspend,
        console_input=capabilities.console_input,
    )


def _observations(numbered: Sequence[Numbered]) -> compute_pb2.Observations:
    return compute_pb2.Observations(observations=map(_observation, numbered))


def _observation(numbered: Numbered) -> compute_pb2.Observation:
    seen = numbered.observation
    return compute_pb2.Observation(
        sequence=numbered.sequence,
        instance_id=seen.claim.instance_id,
        epoch=seen.claim.epoch,
        applied_generation=seen.applied_generation,
        power=_power(seen.power),
        absent=seen.absent,
        failure=None if seen.failure is None else failure_to_wire(seen.failure),
        progress=seen.progress,
    )


def _view(view: compute_pb2.View) -> View:
    return View(
        cloud_id=view.cloud_id,
        host_id=view.host_id,
        incarnation=view.incarnation,
        revision=view.revision,
        wanted=tuple(map(_wanted, view.wanted)),
    )


def _wanted(wanted: compute_pb2.Wanted) -> Wanted:
    return Wanted(
        claim=Claim(wanted.instance_id, wanted.epoch),
        generation=wanted.generation,
        revision=wanted.revision,
        spec=_spec(wanted.spec),
        trace=trace_from(wanted.trace.correlation_id, wanted.trace.traceparent),
        built=wanted.built,
        leaving=wanted.leaving,
        unclaimed=wanted.unclaimed,
    )


def _spec(spec: compute_pb2.Spec) -> Spec:
    return Spec(
        present=spec.present,
        power=_wanted_power(spec),
        boot=spec.boot,
        project_id=spec.project_id,
        name=spec.name,
        resources=Resources(spec.vcpus, spec.memory_mib, spec.disk_gib),
        image=_image(spec.image) if spec.present else None,
        ssh_public_keys=tuple(spec.ssh_public_keys),
        user_data=spec.user_data,
        grace_s=spec.grace_s,
    )


def _wanted_power(spec: compute_pb2.Spec) -> Power:
    """How the guest shall be; an older conductor says only whether it shall run."""
    if spec.power:
        return Power(spec.power)
    return Power.RUNNING if spec.run else Power.OFF


def _image(image: compute_pb2.ImageReference) -> Image:
    return Image(
        digest=image.digest,
        size_bytes=image.size_bytes,
        kind=ImageKind(image.kind),
        architecture=Architecture(image.architecture),
    )
