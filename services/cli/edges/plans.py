"""The plan of a cloud on this machine: engines made ready, credentials made, services told where
all that is.
"""

import socket
import sys
from collections.abc import Mapping, Sequence

from services.cli.edges import keys
from services.cli.edges.engines import libvirtd, nats, postgres
from services.cli.edges.files import free_ports
from services.cli.logic.home import Home
from services.cli.logic.options import Options
from services.cli.logic.units import Backing, Unit, services_of


class LocalPlans:
    """Plans for one home."""

    def __init__(self, home: Home, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = environment

    def units(self, options: Options, cloud_id: str) -> Sequence[Unit]:
        """Prepares engines and credentials and gives all units. Raises Unavailable."""
        keys.make_keys(self._home)
        keys.renew_admin_token(self._home, cloud_id)
        engines: list[Unit] = []
        if not options.postgres_url:
            engines.append(postgres.prepare(self._home))
        if not options.nats_url:
            engines.append(nats.prepare(self._home))
        libvirt_uri = options.libvirt_uri
        if options.own_libvirtd:
            libvirt_uri = libvirtd.uri(self._home)
            engines.append(libvirtd.unit(self._home, libvirt_uri))
        endpoints = {engine.name: engine.endpoint for engine in engines}
        backing = Backing(
            cloud_id=cloud_id,
            postgres_url=options.postgres_url or endpoints["postgres"],
            nats_url=options.nats_url or endpoints["nats"],
            nats_credential_file="" if options.nats_url else str(self._home.nats_credential_file),
            libvirt_uri=libvirt_uri,
            engines=frozenset(endpoints),
            python=sys.executable,
            api_listens=(
                options.listen,
                *(f"127.0.0.1:{port}" for port in free_ports(options.api_replicas - 1)),
            ),
            machine=self._environment.get("STEAD_COMPUTE_HOST_ID") or socket.gethostname(),
        )
        return [*engines, *services_of(self._home, options, backing)]
