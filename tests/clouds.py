"""Whole clouds for tests: `stead up` in a home of the test's own, on a free port, ended by the
test.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc
from stead.v1 import (
    flavor_pb2,
    flavor_pb2_grpc,
    host_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    instance_pb2_grpc,
    operation_pb2_grpc,
)

from services.runtime.ids import new_id
from tests.engines import PG_BIN, free_port

STEAD = str(Path(sys.executable).parent / "stead")
PATIENCE_S = 240.0

Answer = TypeVar("Answer")


class Cloud:
    """A running cloud and the ways to speak to it."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.endpoint = f"127.0.0.1:{port}"
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("STEAD_")
        } | {"STEAD_HOME": str(home), "STEAD_ENDPOINT": self.endpoint}

    def run(self, *argv: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        """Runs `stead ARGV` as a person would; fails the test with what it said unless `check` is
        off.
        """
        done = subprocess.run(
            [STEAD, *argv], env=self.environment | extra, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"stead {argv}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def json(self, *argv: str) -> Any:
        """What `stead ARGV --output json` prints."""
        return json.loads(self.run(*argv, "--output", "json").stdout)

    def services(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of `stead status`, by service name."""
        found: dict[str, list[dict[str, Any]]] = {}
        done = self.run("status", "--output", "json", check=False)
        for service in json.loads(done.stdout)["services"]:
            found.setdefault(service["name"], []).append(service)
        return found

    def healthy(self) -> bool:
        """Whether `stead status` says so."""
        done = self.run("status", "--output", "json", check=False)
        return done.returncode == 0 and bool(json.loads(done.stdout)["healthy"])

    def token(self) -> str:
        """The admin's token."""
        return (self.home / "admin.token").read_text().strip()

    def sql(self, statement: str) -> str:
        """Rows of the cloud's own database, for checking from outside."""
        done = subprocess.run(
            [str(PG_BIN / "psql"), "-X", "-qAt", "-h", str(self.home / "run"), "-U", "stead",
             "-d", "stead", "-c", statement],
            check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.stdout.strip()


class Client:
    """The public contract over one channel, with a token."""

    def __init__(self, channel: grpc.Channel, token: str) -> None:
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.instances = instance_pb2_grpc.InstanceServiceStub(channel)
        self.operations = operation_pb2_grpc.OperationServiceStub(channel)
        self.flavors = flavor_pb2_grpc.FlavorServiceStub(channel)
        self.images = image_pb2_grpc.ImageServiceStub(channel)
        self.hosts = host_pb2_grpc.HostServiceStub(channel)

    def call(self, method: Callable[..., Answer], request: object, timeout: float = 60.0) -> Answer:
        """One call; waits for a server that is coming up, tries again while UNAVAILABLE."""
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                return method(request, metadata=self.metadata, timeout=timeout, wait_for_ready=True)
            except grpc.RpcError as error:
                retryable = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                if error.code() not in retryable or time.monotonic() > give_up_at:
                    raise
                time.sleep(0.2)

    def once(self, method: Callable[..., Answer], request: object) -> Answer:
        """One call, no second try."""
        return method(request, metadata=self.metadata, timeout=60.0)

    def flavor(self, name: str = "tiny", **size: int) -> str:
        """The id of a new flavor."""
        size = {"vcpus": 1, "memory_mib": 192, "disk_gib": 1} | size
        request = flavor_pb2.CreateFlavorRequest(request_id=new_id(), name=name, **size)
        return self.call(self.flavors.CreateFlavor, request).flavor.id

    def image(self, path: Path, name: str = "guest", digest: str = "") -> str:
        """The id of a kernel image made from a file."""
        content = path.read_bytes()
        description = image_pb2.ImageDescription(
            request_id=new_id(),
            name=name,
            kind=image_pb2.IMAGE_KIND_KERNEL,
            architecture=image_pb2.ARCHITECTURE_X86_64,
            digest=digest or hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
        )

        def parts() -> Iterator[image_pb2.ImportImageRequest]:
            yield image_pb2.ImportImageRequest(description=description)
            for start in range(0, len(content), 1 << 20):
                yield image_pb2.ImportImageRequest(chunk=content[start : start + (1 << 20)])

        answer = self.images.ImportImage(parts(), metadata=self.metadata, timeout=120)
        return str(answer.image.id)


def kernel_tar(path: Path) -> Path:
    """A file that is a kernel image by its form; no guest boots from it."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("kernel", "initrd", "cmdline"):
            content = b"console=ttyS0 of-a-test\n" if name == "cmdline" else name.encode() * 500
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@contextlib.contextmanager
def cloud(*flags: str, **environment: str) -> Iterator[Cloud]:
    """A cloud started with `stead up --detach FLAGS`; it and its guests end with the test."""
    home = Path(tempfile.mkdtemp(prefix="stead-"))
    made = Cloud(home / "h", free_port())
    made.environment |= environment
    try:
        made.run("up", "--detach", "--listen", made.endpoint, *flags)
        yield made
    finally:
        done = made.run("down", "--guests", check=False)
        if done.returncode != 0:
            made.run("down", check=False)
        for log in sorted((made.home / "logs").glob("*.log")):
            # Kept where a failing run can be looked into.
            kept = Path("build") / "test-logs" / home.name
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, kept / log.name)
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def client(of: Cloud, token: str = "") -> Iterator[Client]:
    """The public contract of a cloud, by default as its admin."""
    options = (("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100))
    with grpc.insecure_channel(of.endpoint, options=options) as channel:
        yield Client(channel, token or of.token())


def eventually(
    check: Callable[[], bool], what: str, within_s: float = PATIENCE_S, every_s: float = 0.2
) -> None:
    """Waits until `check` holds; fails the test saying what never did."""
    give_up_at = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < give_up_at, f"never: {what}"
        time.sleep(every_s)
