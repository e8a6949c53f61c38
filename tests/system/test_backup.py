"""Going back to a backup, with the commands of docs/backup.md word for word."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from stead.v1 import instance_pb2

from tests.clouds import Cloud, client, cloud, eventually, kernel_tar

PAGE = Path("docs/backup.md")
FAKE = ("--driver", "fake", "--fake-hosts", "1")
UNKNOWN, MISSING = "DIFFERENCE_KIND_GUEST_WITHOUT_CLAIM", "DIFFERENCE_KIND_CLAIM_WITHOUT_GUEST"


def block(name: str) -> str:
    """The commands of one block of the page; "" for the one that comes first."""
    found = re.search(rf"```sh{' ' + name if name else ''}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"docs/backup.md has no block {name!r}"
    return found[1]


def follow(of: Cloud, name: str, *, ends: int = 0) -> None:
    """Does what a block says, as a reader would."""
    done = subprocess.run(
        ["bash", "-euc", block("") + block(name)],
        env=of.environment | {"BACKUP": str(of.home.parent / "backup")},
        capture_output=True, text=True, timeout=240, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == ends, f"{name}: {done.returncode}\n{done.stdout}\n{done.stderr}"


def instance(of: Cloud, name: str) -> dict[str, Any]:
    found: dict[str, Any] = of.json("instance", "show", name)
    return found


def create(of: Cloud, name: str) -> None:
    of.run("instance", "create", name, "--flavor", "tiny", "--image", "guest", "--wait")


def guests(of: Cloud) -> dict[str, str]:
    """What the host last said that it has: epoch, power and generation, by instance id."""
    rows = of.sql("SELECT instance_id, epoch, power, applied_generation FROM guest").splitlines()
    return dict(row.split("|", 1) for row in rows)


def differing(of: Cloud, *words: str) -> dict[str, dict[str, Any]]:
    """What an audit that finds something tells, by kind."""
    done = of.run(*words, "--output", "json", check=False)
    assert done.returncode == 1, done.stderr
    return {difference["kind"]: difference for difference in json.loads(done.stdout)}


@dataclass
class Restored:
    """A cloud that was set back, and what was known before."""

    of: Cloud
    third_id: str
    second_id: str
    second_guest: str
    resume_token: str
    page_token: str

    @property
    def host_id(self) -> str:
        return str(self.of.json("host", "list")[0]["id"])


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    """Two instances, a backup, a third made and the first deleted; then back, and started."""
    with cloud(*FAKE) as of:
        of.run("flavor", "create", "tiny", "--vcpus", "1", "--memory-mib", "64", "--disk-gib", "1")
        image = kernel_tar(tmp_path_factory.mktemp("image") / "guest.tar")
        of.run("image", "import", str(image), "--name", "guest")
        create(of, "first")
        create(of, "second")
        follow(of, "backup")
        create(of, "third")
        third, second = instance(of, "third")["id"], instance(of, "second")["id"]
        of.run("instance", "delete", "first", "--wait")
        # It asks the host, whose last report is of before all that.
        of.run("audit")
        assert set(guests(of)) == {second, third}
        known = guests(of)[second]
        with client(of) as as_:
            request = instance_pb2.ListInstancesRequest(page_size=1)
            listed = as_.call(as_.instances.ListInstances, request)
        follow(of, "restore")
        of.run("up", "--detach", "--listen", of.endpoint, *FAKE)
        yield Restored(of, third, second, known, listed.resume_token, listed.next_page_token)


@pytest.mark.timeout(600)
def test_what_was_made_since_is_quarantined_and_shown(restored: Restored) -> None:
    """Its guest is left as it is; the audits tell of it and end with 1."""
    of = restored.of
    follow(of, "look", ends=1)
    told = differing(of, "audit")
    assert set(told) == {UNKNOWN, MISSING}
    assert told[UNKNOWN]["instance_id"] == restored.third_id
    assert told[UNKNOWN]["mend"]
    shown = of.run("host", "audit", restored.host_id, check=False)
    assert shown.returncode == 1
    assert f"\n{restored.host_id}  {restored.third_id}" in shown.stdout, "a table of the unknown"
    assert restored.third_id in guests(of)


def test_what_was_deleted_since_is_told_as_lost_and_not_made_anew(restored: Restored) -> None:
    """By the policy: STOPPED, CRASHED, with its fault; no empty disk takes its place."""
    of = restored.of
    eventually(
        lambda: instance(of, "first")["state"] == "INSTANCE_STATE_STOPPED", "the first is missed"
    )
    first = instance(of, "first")
    assert first["power"] == "INSTANCE_POWER_CRASHED"
    assert first["fault"].startswith("GUEST_LOST: ")
    assert first["id"] not in guests(of)
    assert differing(of, "audit")[MISSING]["instance_id"] == first["id"]


def test_what_nothing_happened_to_runs_on_untouched(restored: Restored) -> None:
    """The same guest, the same epoch, the same generation."""
    assert instance(restored.of, "second")["state"] == "INSTANCE_STATE_ACTIVE"
    assert guests(restored.of)[restored.second_id] == restored.second_guest


def test_tokens_of_the_other_history_are_refused(restored: Restored) -> None:
    """REVISION_COMPACTED, for watches and for pages."""
    with client(restored.of) as as_:
        watch = instance_pb2.WatchInstancesRequest(resume_token=restored.resume_token)
        call = as_.instances.WatchInstances(watch, metadata=as_.metadata, timeout=60)
        with pytest.raises(grpc.RpcError) as watched:
            next(iter(call))
        request = instance_pb2.ListInstancesRequest(page_size=1, page_token=restored.page_token)
        with pytest.raises(grpc.RpcError) as paged:
            as_.call(as_.instances.ListInstances, request)
    for refused in (watched, paged):
        assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
        assert "REVISION_COMPACTED" in str(refused.value.trailing_metadata())


def test_an_admins_word_ends_the_quarantine_and_nothing_differs_any_more(
    restored: Restored,
) -> None:
    """A dry run changes nothing; the word does: the host erases the guest, the audit is empty."""
    of, third = restored.of, restored.third_id
    epoch = guests(of)[third].split("|")[0]
    of.run("host", "discard-guest", restored.host_id, third, epoch, "--dry-run")
    assert of.sql(f"SELECT count(*) FROM claim WHERE instance_id = '{third}'") == "0"
    of.run("host", "discard-guest", restored.host_id, third, epoch)
    claimed = of.run("host", "discard-guest", restored.host_id, third, epoch, check=False)
    assert claimed.returncode in (3, 5), "it is on its way, or gone"
    of.run("instance", "delete", "first", "--wait")

    def erased() -> bool:
        # A guest that is on its way out is no difference; each audit asks the host what it has.
        return of.run("audit", check=False).returncode == 0 and third not in guests(of)

    eventually(erased, "the host has erased it, and nothing differs")
    assert instance(of, "second")["state"] == "INSTANCE_STATE_ACTIVE"
