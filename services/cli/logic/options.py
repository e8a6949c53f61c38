"""What `stead up` was asked for, and whether two wishes agree."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from services.domain.errors import Invalid

DRIVERS = ("libvirt", "kvm", "qemu", "fake")
_V4 = re.compile(r"\d{1,3}(\.\d{1,3}){3}:\d+")
LIBVIRT_DRIVERS = frozenset({"libvirt", "kvm", "qemu"})
FLAGS = {
    "drivers": "--driver",
    "listen": "--listen",
    "postgres_url": "--postgres",
    "nats_url": "--nats",
    "libvirt_uri": "--libvirt-uri",
    "fake_hosts": "--fake-hosts",
    "api_replicas": "--api-replicas",
}
API_REPLICAS_MAX = 16


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of `stead up` with their defaults filled in; an empty URL means an engine of our
    own.
    """

    drivers: tuple[str, ...] = ("libvirt",)
    listen: str = "127.0.0.1:8774"
    postgres_url: str = ""
    nats_url: str = ""
    libvirt_uri: str = ""
    fake_hosts: int = 1
    api_replicas: int = 1

    @property
    def own_libvirtd(self) -> bool:
        """Whether a libvirtd of our own is needed."""
        return not self.libvirt_uri and bool(LIBVIRT_DRIVERS.intersection(self.drivers))


def options_from(given: dict[str, Any]) -> Options:
    """Options from the flags that were given (None: not given). Raises Invalid naming the flag."""
    wished = {name: value for name, value in given.items() if value is not None}
    if "drivers" in wished:
        wished["drivers"] = tuple(wished["drivers"])
    options = replace(Options(), **wished)
    unknown = [driver for driver in options.drivers if driver not in DRIVERS]
    if unknown:
        raise Invalid(
            "INVALID_FIELD",
            f'no driver "{unknown[0]}"; there are {", ".join(DRIVERS)}',
            field="--driver",
        )
    if len(set(options.drivers)) != len(options.drivers):
        raise Invalid("INVALID_FIELD", "each driver can be named once", field="--driver")
    if options.fake_hosts < 1 or options.fake_hosts > 10_000:
        raise Invalid("INVALID_FIELD", "--fake-hosts is 1 to 10000", field="--fake-hosts")
    if not 1 <= options.api_replicas <= API_REPLICAS_MAX:
        words = f"--api-replicas is 1 to {API_REPLICAS_MAX}"
        raise Invalid("INVALID_FIELD", words, field="--api-replicas")
    listen_address(options.listen)
    return options


def listen_address(listen: str, *, flag: str = "--listen") -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[V6]:PORT`. Raises Invalid naming the flag."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Invalid("INVALID_FIELD", f'"{listen}" is not HOST:PORT', field=flag)
    return host.strip("[]"), int(port)


def target_address(endpoint: str) -> None:
    """Refuses what no cloud can be reached by: neither HOST:PORT, several of them joined by commas,
    nor a gRPC target. Raises Invalid.
    """
    if endpoint.startswith(("unix:", "dns:", "ipv4:", "ipv6:")):
        return
    each = endpoint.split(",")
    for one in each:
        host, _ = listen_address(one, flag="STEAD_ENDPOINT")
        if "/" in host:
            raise Invalid("INVALID_FIELD", f'"{one}" is not HOST:PORT', field="STEAD_ENDPOINT")
    if len(each) > 1 and target_of(each) == each[0]:
        words = "several endpoints are all numbers of one internet: 127.0.0.1:1,127.0.0.1:2"
        raise Invalid("INVALID_FIELD", words, field="STEAD_ENDPOINT")


def target_of(endpoints: Sequence[str]) -> str:
    """The gRPC target that reaches any of several replicas; the first alone where they cannot be
    named in one: by names, or in two internets.

    Source of the forms: gRPC's name resolution, `ipv4:` and `ipv6:`.
    """
    joined = ",".join(endpoints)
    if len(endpoints) > 1 and all(_V4.fullmatch(one) for one in endpoints):
        return f"ipv4:{joined}"
    if len(endpoints) > 1 and all(one.startswith("[") for one in endpoints):
        return f"ipv6:{joined}"
    return endpoints[0]


def written(options: Options) -> dict[str, Any]:
    """The options as JSON can hold them."""
    return asdict(options)


def read(stored: dict[str, Any]) -> Options:
    """Options as `written` left them; unknown names are dropped."""
    known = {field.name for field in fields(Options)}
    kept = {name: value for name, value in stored.items() if name in known}
    if "drivers" in kept:
        kept["drivers"] = tuple(kept["drivers"])
    return Options(**kept)


def differences(running: Options, given: dict[str, Any]) -> list[str]:
    """The flags that were given and say something else than what runs."""
    now = written(running)
    return [
        FLAGS[name]
        for name, value in given.items()
        if value is not None and (tuple(value) if name == "drivers" else value) != now[name]
    ]
