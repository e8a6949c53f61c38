"""Every wish of the contract, ready to be sent: what it is about is there when it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from stead.internal.v1 import conductor_pb2
from stead.v1 import (
    audit_pb2,
    flavor_pb2,
    host_pb2,
    image_pb2,
    instance_pb2,
    key_pair_pb2,
    operation_pb2,
    project_pb2,
    quota_pb2,
)

from services.conductor.flows.accept_catalog import NewImage
from services.conductor.flows.audit_ports import Inventory, ReportedGuest
from services.conductor.flows.decide import Decision
from services.conductor.logic.items import Item
from services.conductor.logic.observation import Seen
from services.domain.instance import Action, Power
from services.domain.kinds import HostState
from services.domain.resources import Resources
from services.runtime.ids import new_id
from tests.integration.conductor.flows import (
    IMAGE,
    Conductor,
    asked,
    catalog,
    conductor,
    hello,
    new_instance,
)

__all__ = ["KEY", "ME", "WISHES", "Ground", "conductor", "mutation", "prepared", "send"]

ME = conductor_pb2.Caller(subject="me", project_id="p", cloud_admin=True)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOih1PlrWfSsACUZuhD9P9l043ucltLHPEEjTS9VT9BR me@here"
DIGEST = "b" * 64
# Enough for an instance of its own for each wish.
ROOM = Resources(32, 32_000, 3_200)


@dataclass
class Ground:
    """What the wishes are about."""

    made: Conductor
    flavor_id: str
    image_id: str
    active_id: str
    stopped_id: str
    paused_id: str
    suspended_id: str
    placing_operation_id: str
    key_pair_id: str
    stranger_id: str
    stranded_id: str

    def of(self, action: Action) -> str:
        """The instance whose power switch can be turned so."""
        others = {
            Action.START: self.stopped_id,
            Action.UNPAUSE: self.paused_id,
            Action.RESUME: self.suspended_id,
        }
        return others.get(action, self.active_id)


async def prepared(made: Conductor) -> Ground:
    """A host with a guest of nobody, a flavor, an image, a key pair, a project; an instance that
    runs, one that is off, one paused, one suspended, and one that waits for a host. Three hosts
    that are down: `silent` and `empty`, where nothing is, and `dead`, which is fenced and had an
    instance that ran.
    """
    for host_id in ("h1", "silent", "empty", "dead"):
        await made.greeter.greet(hello(host_id, ROOM))
    ids = await catalog(made)
    waiting = await made.instances.create(asked(), new_instance("waits", ids))
    active_id = await running(made, "runs", ids)
    others = []
    names = {"rests": Power.OFF, "waits-in-memory": Power.PAUSED, "sleeps": Power.SUSPENDED}
    for name, power in names.items():
        other_id = await running(made, name, ids)
        told = await look(made, other_id, 2, power=power, applied_generation=1)
        await made.observer.observe([told])
        others.append(other_id)
    await made.catalog.register_image(
        asked("register_image"), NewImage("taken", IMAGE, 1, public=False)
    )
    pair = await made.catalog.create_key_pair(asked("create_key_pair"), "mine", KEY)
    await made.projects.create(asked("create_project"), "known", "Known")
    stranger = ReportedGuest(new_id(), 4, 1, Power.RUNNING)
    await made.store.audits.inventory_keep(Inventory("h1", 1, 0, 0, (stranger,)))
    stranded_id = await running(made, "stranded", ids, "dead")
    for host_id in ("silent", "empty", "dead"):
        await down(made, host_id)
    await made.hosts.fence(asked("fence_host"), "dead", "burnt")
    there = (active_id, *others, waiting.operation.id, pair.resource.id, stranger.instance_id)
    return Ground(made, *ids, *there, stranded_id)


async def down(made: Conductor, host_id: str) -> None:
    """Its lease has lapsed, as the row says."""
    row = (await made.store.hosts_read([host_id]))[host_id]
    lapsed = "UPDATE lease SET beat_at = now() - interval '1 h' WHERE host_id = $1"
    await made.store._quiet.run(lambda connection: connection.execute(lapsed, host_id))
    await made.committer.commit(Item(host=replace(row, state=HostState.DOWN)))


async def running(made: Conductor, name: str, ids: tuple[str, str], host_id: str = "h1") -> str:
    """An instance that runs on the host; its id."""
    accepted = await made.instances.create(asked(), new_instance(name, ids))
    instance_id = accepted.resource.id
    await made.decider.decide([Decision(instance_id, 1, host_id, 1, {})])
    await made.observer.observe([await look(made, instance_id, 1, applied_generation=1)])
    return instance_id


async def look(made: Conductor, instance_id: str, sequence: int, **changes: Any) -> Seen:
    """What the host of its newest claim sees of a guest: that it runs, if not said otherwise."""
    claim = (await made.store.situations_read([instance_id]))[instance_id].claims[-1]
    values = {"applied_generation": 0, "power": Power.RUNNING, "absent": False} | changes
    return Seen(instance_id, claim.epoch, claim.host_id, claim.host_incarnation, sequence, **values)


def mutation(wish: str, message: Any) -> conductor_pb2.Mutation:
    """A wish of mine."""
    return conductor_pb2.Mutation(caller=ME, **{wish: message})


async def send(made: Conductor, *mutations: conductor_pb2.Mutation) -> list[Any]:
    """The results of a batch."""
    request = conductor_pb2.AcceptRequest(mutations=mutations)
    return list((await made.servicer().Accept(request, None)).results)


def _created(ground: Ground, name: str) -> instance_pb2.CreateInstanceRequest:
    return instance_pb2.CreateInstanceRequest(
        request_id=new_id(), name=name, flavor_id=ground.flavor_id, image_id=ground.image_id
    )


def _batched(ground: Ground) -> conductor_pb2.BatchedCreate:
    return conductor_pb2.BatchedCreate(
        create=_created(ground, "batched"), index=3, fingerprint=b"whole batch"
    )


Make = Callable[[Ground], Any]
# By wish: the message, and another payload for the same request id.
WISHES: dict[str, tuple[Make, dict[str, Any]]] = {
    "create_instance": (lambda g: _created(g, "new"), {"name": "other"}),
    "batched_create": (_batched, {}),
    "delete_instance": (
        lambda g: instance_pb2.DeleteInstanceRequest(request_id=new_id(), id=g.active_id),
        {"id": new_id()},
    ),
    "update_instance": (
        lambda g: instance_pb2.UpdateInstanceRequest(
            request_id=new_id(), id=g.active_id, name="b", update_mask=FieldMask(paths=["name"])
        ),
        {"name": "c"},
    ),
    "start_instance": (
        lambda g: instance_pb2.StartInstanceRequest(request_id=new_id(), id=g.stopped_id),
        {"id": new_id()},
    ),
    "stop_instance": (
        lambda g: instance_pb2.StopInstanceRequest(request_id=new_id(), id=g.active_id),
        {"id": new_id()},
    ),
    "reboot_instance": (
        lambda g: instance_pb2.RebootInstanceRequest(request_id=new_id(), id=g.active_id),
        {"kind": instance_pb2.REBOOT_KIND_HARD},
    ),
    "pause_instance": (
        lambda g: instance_pb2.PauseInstanceRequest(request_id=new_id(), id=g.active_id),
        {"id": new_id()},
    ),
    "unpause_instance": (
        lambda g: instance_pb2.UnpauseInstanceRequest(request_id=new_id(), id=g.paused_id),
        {"id": new_id()},
    ),
    "suspend_instance": (
        lambda g: instance_pb2.SuspendInstanceRequest(request_id=new_id(), id=g.active_id),
        {"id": new_id()},
    ),
    "resume_instance": (
        lambda g: instance_pb2.ResumeInstanceRequest(request_id=new_id(), id=g.suspended_id),
        {"id": new_id()},
    ),
    "create_flavor": (
        lambda g: flavor_pb2.CreateFlavorRequest(
            request_id=new_id(), name="large", vcpus=1, memory_mib=16, disk_gib=1
        ),
        {"vcpus": 2},
    ),
    "delete_flavor": (
        lambda g: flavor_pb2.DeleteFlavorRequest(request_id=new_id(), id=g.flavor_id),
        {"id": new_id()},
    ),
    "register_image": (
        lambda g: conductor_pb2.RegisterImage(
            description=image_pb2.ImageDescription(
                request_id=new_id(),
                name="other",
                kind=image_pb2.IMAGE_KIND_RAW,
                architecture=image_pb2.ARCHITECTURE_X86_64,
                digest=DIGEST,
                size_bytes=5,
            ),
            min_disk_gib=1,
        ),
        {},
    ),
    "delete_image": (
        lambda g: image_pb2.DeleteImageRequest(request_id=new_id(), id=g.image_id),
        {"id": new_id()},
    ),
    "create_key_pair": (
        lambda g: key_pair_pb2.CreateKeyPairRequest(
            request_id=new_id(), name="yours", public_key=KEY
        ),
        {"name": "theirs"},
    ),
    "delete_key_pair": (
        lambda g: key_pair_pb2.DeleteKeyPairRequest(request_id=new_id(), id=g.key_pair_id),
        {"id": new_id()},
    ),
    "create_project": (
        lambda g: project_pb2.CreateProjectRequest(
            request_id=new_id(), id="new", display_name="New"
        ),
        {"display_name": "Other"},
    ),
    "update_project": (
        lambda g: project_pb2.UpdateProjectRequest(
            request_id=new_id(),
            id="known",
            display_name="Other",
            update_mask=FieldMask(paths=["*"]),
        ),
        {"display_name": "Another"},
    ),
    "delete_project": (
        lambda g: project_pb2.DeleteProjectRequest(request_id=new_id(), id="known"),
        {"id": "new"},
    ),
    "update_quota": (
        lambda g: quota_pb2.UpdateQuotaRequest(
            request_id=new_id(),
            project_id="limited",
            limits=quota_pb2.QuotaAmounts(instances=5),
            update_mask=FieldMask(paths=["instances"]),
        ),
        {"project_id": "known"},
    ),
    "enable_host": (
        lambda g: host_pb2.EnableHostRequest(request_id=new_id(), id="h1"),
        {"id": "h2"},
    ),
    "disable_host": (
        lambda g: host_pb2.DisableHostRequest(request_id=new_id(), id="h1", reason="broken fan"),
        {"reason": "moved"},
    ),
    "fence_host": (
        lambda g: host_pb2.FenceHostRequest(request_id=new_id(), id="silent", reason="unplugged"),
        {"reason": "sold"},
    ),
    "remove_host": (
        lambda g: host_pb2.RemoveHostRequest(request_id=new_id(), id="empty"),
        {"id": "h1"},
    ),
    "evacuate_instance": (
        lambda g: instance_pb2.EvacuateInstanceRequest(request_id=new_id(), id=g.stranded_id),
        {"id": new_id()},
    ),
    "discard_guest": (
        lambda g: audit_pb2.DiscardGuestRequest(
            request_id=new_id(), host_id="h1", instance_id=g.stranger_id, epoch=4
        ),
        {"epoch": 5},
    ),
    "cancel_operation": (
        lambda g: operation_pb2.CancelOperationRequest(
            request_id=new_id(), id=g.placing_operation_id
        ),
        {"id": new_id()},
    ),
}
