"""What `stead host audit` tells programs: its exit code and its JSON know of unknown guests too.

The door is scripted: a guest that is listed as unknown while the audit tells no difference is a
matter of moments in a cloud.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from stead.v1 import audit_pb2, audit_pb2_grpc

STEAD = Path(sys.executable).parent / "stead"
INSTANCE = "01a2048d-a56b-7140-86a6-53fad6ce83b7"
GUEST = audit_pb2.UnknownGuest(host_id="h1", instance_id=INSTANCE, epoch=7, kind=11)
DIFFERENCE = audit_pb2.Difference(kind=15, host_id="h1", instance_id=INSTANCE, epoch=9)


class Door(audit_pb2_grpc.AuditServiceServicer):
    """Tells of these guests, a page each, and of these differences."""

    def __init__(self, guests: int, differences: int) -> None:
        self._guests = guests
        self._differences = differences

    def ListUnknownGuests(
        self, request: audit_pb2.ListUnknownGuestsRequest, context: grpc.ServicerContext
    ) -> audit_pb2.ListUnknownGuestsResponse:
        assert request.host_id == "h1"
        page = int(request.page_token or 0)
        more = str(page + 1) if page + 1 < self._guests else ""
        told = [GUEST] if page < self._guests else []
        return audit_pb2.ListUnknownGuestsResponse(guests=told, next_page_token=more)

    def Audit(
        self, request: audit_pb2.AuditRequest, context: grpc.ServicerContext
    ) -> Iterator[audit_pb2.AuditResponse]:
        assert request.host_id == "h1"
        for _ in range(self._differences):
            yield audit_pb2.AuditResponse(difference=DIFFERENCE)
        done = audit_pb2.AuditDone(differences=self._differences, hosts=1)
        yield audit_pb2.AuditResponse(done=done)


@contextlib.contextmanager
def opened(door: Door) -> Iterator[int]:
    """The port on which it stands."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    audit_pb2_grpc.add_AuditServiceServicer_to_server(door, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


def audited(door: Door, home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The command, ended."""
    token = home / "token"
    token.write_text("a.b.c")
    with opened(door) as port:
        return subprocess.run(
            [STEAD, "host", "audit", "h1", *flags],
            env={
                "PATH": "/usr/bin:/bin", "STEAD_HOME": str(home),
                "STEAD_ENDPOINT": f"127.0.0.1:{port}", "STEAD_TOKEN_FILE": str(token),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )  # fmt: skip


@pytest.mark.parametrize(("guests", "differences"), [(0, 0), (2, 0), (0, 1), (2, 1)])
def test_a_program_sees_unknown_guests_and_differences(
    tmp_path: Path, guests: int, differences: int
) -> None:
    """All pages of both, whole; 1 for either, 0 for neither."""
    ended = audited(Door(guests, differences), tmp_path, "--output", "json")
    told = json.loads(ended.stdout)
    assert [guest["instance_id"] for guest in told["unknown_guests"]] == [INSTANCE] * guests
    assert [one["epoch"] for one in told["differences"]] == ["9"] * differences
    assert ended.returncode == (1 if guests or differences else 0)


def test_a_person_sees_an_unknown_guest_and_the_command_ends_with_1(tmp_path: Path) -> None:
    ended = audited(Door(1, 0), tmp_path)
    assert ended.returncode == 1
    assert INSTANCE in ended.stdout
    assert "no difference" in ended.stderr
