"""The processes of a cloud: what each is started with, what it needs first, in which order they
end.

Owns the plan. Does not own how an engine is called: edges/engines do.
"""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from services.cli.logic.home import Home
from services.cli.logic.options import LIBVIRT_DRIVERS, Options


class Probe(Enum):
    """How one finds out whether a process is ready."""

    HEALTH = "health"
    NATS = "nats"
    POSTGRES = "postgres"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class Unit:
    """One process. `ends_in` orders the end: lower first. Auxiliary: no service of stead."""

    name: str
    argv: tuple[str, ...]
    probe: Probe
    endpoint: str
    replica: int = 0
    admin_endpoint: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    stop_signal: signal.Signals = signal.SIGTERM
    ends_in: int = 0
    auxiliary: bool = False

    @property
    def label(self) -> str:
        """Its own name among all: the service, and the replica's number from the second on."""
        return self.name if self.replica == 0 else f"{self.name}-{self.replica}"


@dataclass(frozen=True, slots=True)
class Backing:
    """What the services are told of the engines and of this machine."""

    cloud_id: str
    postgres_url: str
    nats_url: str
    nats_credential_file: str
    libvirt_uri: str
    engines: frozenset[str]
    python: str
    machine: str
    # Where each replica of api listens, the first where the caller wants it.
    api_listens: tuple[str, ...]


def services_of(home: Home, options: Options, backing: Backing) -> list[Unit]:
    """conductor, scheduler, the replicas of api, and one compute per driver."""
    socket = f"unix:{home.run}/conductor.sock"
    conductor = _service(
        home,
        backing,
        "conductor",
        settings={"LISTEN": socket, "POSTGRES_URL": backing.postgres_url},
    )
    scheduler = _service(home, backing, "scheduler", settings={"CONDUCTOR": socket})
    after_conductor = frozenset({"conductor"})
    return [
        replace(
            conductor, endpoint=socket, ends_in=1, needs=backing.engines & {"postgres", "nats"}
        ),
        replace(scheduler, needs=after_conductor),
        *(
            replace(_api(home, backing, replica, socket), needs=after_conductor)
            for replica in range(len(backing.api_listens))
        ),
        *_computes(home, options, backing),
    ]


def _api(home: Home, backing: Backing, replica: int, conductor: str) -> Unit:
    # They share keys and images: a token of one is good at the others.
    listen = backing.api_listens[replica]
    settings = {
        "LISTEN": listen,
        "INGRESS_LISTEN": _ingress(home, replica),
        "CONDUCTOR": conductor,
        "TOKEN_KEY_FILE": str(home.public_key_file),
        "PAGE_KEY_FILE": str(home.page_key_file),
        "IMAGE_DIR": str(home.path / "images"),
    }
    unit = _service(home, backing, "api", replica=replica, settings=settings)
    return replace(unit, endpoint=listen)


def _ingress(home: Home, replica: int) -> str:
    name = "ingress.sock" if replica == 0 else f"ingress-{replica}.sock"
    return f"unix:{home.run}/{name}"


def _computes(home: Home, options: Options, backing: Backing) -> list[Unit]:
    units = []
    ingress = ",".join(_ingress(home, replica) for replica in range(len(backing.api_listens)))
    for replica, (driver, host_id) in enumerate(host_ids(options.drivers, backing.machine).items()):
        settings = {
            "API": ingress,
            "DRIVER": driver,
            "HOST_ID": host_id,
            "STATE_DIR": str(home.path / "compute" / host_id),
        }
        if driver == "fake":
            settings["FAKE_HOSTS"] = str(options.fake_hosts)
        if driver in LIBVIRT_DRIVERS:
            settings["LIBVIRT_URI"] = backing.libvirt_uri
        unit = _service(home, backing, "compute", replica=replica, settings=settings)
        units.append(replace(unit, needs=frozenset({"api"}) | (backing.engines & {"libvirtd"})))
    return units


def host_ids(drivers: tuple[str, ...], machine: str) -> dict[str, str]:
    """The host id of each driver: `fake` for the fake one, the machine's name for the first real
    one.
    """
    name = re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")[:40].strip("-") or "host"
    ids: dict[str, str] = {}
    for driver in drivers:
        if driver == "fake":
            ids[driver] = "fake"
        else:
            ids[driver] = f"{name}-{driver}" if name in ids.values() else name
    return ids


def _service(
    home: Home, backing: Backing, name: str, *, settings: dict[str, str], replica: int = 0
) -> Unit:
    admin = f"unix:{home.run}/{name}-{replica}-admin.sock"
    prefix = f"STEAD_{name.upper()}_"
    environment = {
        "STEAD_CLOUD_ID": backing.cloud_id,
        "STEAD_NATS_URL": backing.nats_url,
        **{prefix + key: value for key, value in settings.items()},
        f"{prefix}ADMIN_LISTEN": admin,
    }
    if backing.nats_credential_file:
        environment["STEAD_NATS_CREDENTIAL_FILE"] = backing.nats_credential_file
    return Unit(
        name=name,
        argv=(backing.python, "-P", "-m", f"services.{name}"),
        probe=Probe.HEALTH,
        endpoint="",
        replica=replica,
        admin_endpoint=admin,
        environment=environment,
    )


def passed_on(unit: Unit, environment: Mapping[str, str]) -> dict[str, str]:
    """What a process gets of its caller's environment: all but stead's settings for others, then
    its own.
    """
    own = f"STEAD_{unit.name.upper()}_"
    kept = {k: v for k, v in environment.items() if not k.startswith("STEAD_") or k.startswith(own)}
    return kept | dict(unit.environment)
