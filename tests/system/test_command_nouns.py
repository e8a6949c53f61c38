"""Every noun of the command on a real cloud: what a person reads and what a program gets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.launched import PATIENCE_S, STEAD, Launched, eventually, launched

PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPrAclHQZEtbFCCP/4jWVqAlgAliRdmPOPPMQMzvYiOq me@here"
)
FINGERPRINT = "SHA256:NW0QI0tpQy4ucgI5/E6HvcCnPpDFmvTBFnD/OmpUw4I"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """A fake fleet with a flavor and an image; enough to make instances quickly."""
    disk = tmp_path_factory.mktemp("image") / "disk"
    disk.write_bytes(bytes(1 << 20))
    with launched() as made:
        made.up("--fake-hosts", "2")
        made.ok("flavor", "create", "tiny")
        made.ok("flavor", "create", "giant", "--vcpus", "1000")
        made.ok("image", "import", str(disk), "--name", "disk")
        yield made


def make(cloud: Launched, name: str, *more: str) -> Any:
    """A new instance that runs."""
    words = ("instance", "create", name, "--flavor", "tiny", "--image", "disk", "--wait")
    return cloud.ask(*words, *more)


def fields(card: str) -> dict[str, str]:
    """The lines of a card by their names."""
    return {line.split()[0]: line.split(None, 1)[-1] for line in card.splitlines()}


def test_an_instance_is_stopped_started_and_rebooted(cloud: Launched) -> None:
    made = make(cloud, "power")
    stopped = cloud.ask("instance", "stop", "power", "--wait", "--grace", "1")
    assert (stopped["state"], stopped["power"]) == ("INSTANCE_STATE_STOPPED", "INSTANCE_POWER_OFF")
    started = cloud.ask("instance", "start", made["id"], "--wait")
    assert started["state"] == "INSTANCE_STATE_ACTIVE"
    for how in ([], ["--hard"], ["--grace", "2"]):
        again = cloud.ask("instance", "reboot", "power", "--wait", *how)
        assert again["state"] == "INSTANCE_STATE_ACTIVE"
        assert int(again["generation"]) > int(started["generation"])
    actions = [o["action"] for o in cloud.ask("operation", "list", "--instance", "power")]
    assert actions[-1] == "OPERATION_ACTION_REBOOT_INSTANCE"


def test_show_says_what_can_be_asked_and_why_not_the_rest(cloud: Launched) -> None:
    make(cloud, "asked")
    shown = fields(cloud.ok("instance", "show", "asked"))
    assert shown["allowed_actions"] == ("DELETE, UPDATE, STOP, REBOOT, PAUSE, SUSPEND, HARD_REBOOT")
    assert "ACTIVE" in shown["blocked_actions.START"]
    assert "INVALID_INSTANCE_STATE" in shown["blocked_actions.START"]
    blocked = cloud.ask("instance", "show", "asked")["blocked_actions"]
    assert [b["action"] for b in blocked] == [
        "INSTANCE_ACTION_START",
        "INSTANCE_ACTION_UNPAUSE",
        "INSTANCE_ACTION_RESUME",
    ]


def test_a_name_and_labels_are_changed_and_what_is_not_named_stays(cloud: Launched) -> None:
    made = make(cloud, "before", "--label", "tier=front", "--label", "draft=yes")
    words = ("--name", "after", "--label", "owner=me", "--remove-label", "draft")
    changed = cloud.ask("instance", "update", "before", *words)
    assert changed["name"] == "after"
    assert changed["labels"] == {"tier": "front", "owner": "me"}
    listed = cloud.ask("instance", "list", "--filter", 'labels.owner = "me"')
    assert [i["id"] for i in listed] == [made["id"]]
    etag = ("--etag", changed["etag"])
    assert cloud.ask("instance", "update", "after", "--name", "later", *etag)["name"] == "later"
    code, error = cloud.refused("instance", "update", "later", "--name", "x", *etag)
    assert (code, error["reason"]) == (5, "ETAG_MISMATCH")


def test_many_are_asked_for_in_one_call_each_with_its_own_result(cloud: Launched) -> None:
    words = ("--flavor", "tiny", "--image", "disk", "--count", "3")
    made = cloud.ask("instance", "create", "node", *words, "--wait")
    assert [i["name"] for i in made] == ["node-1", "node-2", "node-3"]
    assert {i["state"] for i in made} == {"INSTANCE_STATE_ACTIVE"}
    cloud.ok("instance", "delete", "node-2", "--wait")
    again = cloud.stead("instance", "create", "node", *words, "--output", "json")
    assert again.returncode == 5
    assert [i["name"] for i in json.loads(again.stdout)] == ["node-2"]
    error = json.loads(again.stderr)
    assert error["reason"] == "NAME_TAKEN"
    assert error["metadata"]["refused"] == "2"
    assert "2 instances of 3 refused: node-1:" in error["message"]
    table = cloud.stead("instance", "create", "giants", "--flavor", "giant", *words[2:], "--wait")
    assert table.returncode == 6
    assert "NO_VALID_HOST" in table.stderr
    assert table.stdout.count("ERROR") == 3


def test_a_dry_run_says_what_would_be_and_changes_nothing(cloud: Launched, tmp_path: Path) -> None:
    make(cloud, "kept")
    key = tmp_path / "key.pub"
    key.write_text(PUBLIC_KEY)
    create = ("--flavor", "tiny", "--image", "disk")
    before = [o["id"] for o in cloud.ask("operation", "list")]
    runs = (
        ("instance", "create", "dry", *create),
        ("instance", "create", "dry", *create, "--wait"),
        ("instance", "create", "dry", *create, "--count", "2"),
        ("instance", "update", "kept", "--name", "dry"),
        ("instance", "stop", "kept", "--wait"),
        ("instance", "reboot", "kept"),
        ("instance", "delete", "kept", "--wait"),
        ("flavor", "create", "dry"),
        ("flavor", "delete", "giant"),
        ("image", "delete", "disk"),
        ("keypair", "create", "dry", str(key)),
        ("project", "create", "dry"),
        ("quota", "set", "dry", "--vcpus", "1"),
        ("host", "disable", "fake-0001", "--reason", "dry"),
        ("host", "enable", "fake-0001"),
    )
    for words in runs:
        ended = cloud.stead(*words, "--dry-run")
        assert ended.returncode == 0, (words, ended.stderr)
        assert "nothing was changed" in ended.stderr
        assert ended.stdout
        assert cloud.stead(*words, "--dry-run", "--output", "json").stderr == ""
    assert [o["id"] for o in cloud.ask("operation", "list")] == before
    assert cloud.stead("instance", "show", "dry").returncode == 3
    assert cloud.ask("host", "show", "fake-0001")["enabled"] is True
    assert cloud.refused("instance", "create", "kept", *create, "--dry-run")[0] == 5


def test_an_image_is_checked_without_its_bytes(cloud: Launched, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    would = cloud.ask("image", "import", str(disk), "--name", "dry", "--dry-run")
    assert would["name"] == "dry"
    assert cloud.refused("image", "show", "dry")[0] == 3
    code, error = cloud.refused("image", "import", str(disk), "--name", "disk", "--dry-run")
    assert (code, error["reason"]) == (5, "NAME_TAKEN")


def test_an_image_is_taken_in_and_booted_in_one_go(cloud: Launched, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(2 << 20))
    words = ("image", "import", str(disk), "--name", "booted", "--boot", "fresh")
    booted = cloud.ask(*words, "--flavor", "tiny")
    assert (booted["name"], booted["state"]) == ("fresh", "INSTANCE_STATE_ACTIVE")
    assert booted["image_id"] == cloud.ask("image", "show", "booted")["id"]
    code, error = cloud.refused(*words[:-4], "--name", "not", "--boot", "x", "--flavor", "none")
    assert (code, error["reason"]) == (2, "FLAVOR_NOT_FOUND")
    assert cloud.refused("image", "show", "not")[0] == 3


def test_a_key_pair_is_kept_and_used_by_its_name(cloud: Launched, tmp_path: Path) -> None:
    key = tmp_path / "key.pub"
    key.write_text(f"# mine\n{PUBLIC_KEY}\n")
    made = cloud.ask("keypair", "create", "laptop", str(key))
    assert made["fingerprint"] == FINGERPRINT
    piped = cloud.stead("keypair", "create", "piped", "-", typed=PUBLIC_KEY)
    assert piped.returncode == 0, piped.stderr
    assert FINGERPRINT in cloud.ok("keypair", "list", "--order-by", "name desc")
    assert [k["name"] for k in cloud.ask("keypair", "list", "--filter", 'name = "piped"')] == [
        "piped"
    ]
    make(cloud, "keyed", "--key", "laptop", "--key", made["id"])
    assert cloud.ask("keypair", "delete", "laptop")["id"] == made["id"]
    assert cloud.refused("keypair", "show", made["id"])[1]["reason"] == "KEY_PAIR_NOT_FOUND"
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
    refused = cloud.stead("keypair", "create", "mine", str(tmp_path / "key"))
    assert refused.returncode == 2
    assert "private key" in refused.stderr
    code, error = cloud.refused("keypair", "create", "laptop", "-")
    assert (code, error["reason"]) == (2, "PUBLIC_KEY_INVALID")


def test_a_project_is_made_known_changed_and_forgotten(cloud: Launched) -> None:
    made = cloud.ask("project", "create", "shop", "--name", "The shop")
    assert (made["id"], made["display_name"]) == ("shop", "The shop")
    assert "The shop" in cloud.ok("project", "list")
    changed = cloud.ask("project", "update", "shop", "--name", "", "--etag", made["etag"])
    assert changed["display_name"] == ""
    assert cloud.refused("project", "create", "shop")[1]["reason"] == "NAME_TAKEN"
    assert cloud.ask("project", "show", "shop")["etag"] == changed["etag"]
    assert cloud.ask("project", "show")["id"] == "admin"
    cloud.ok("project", "delete", "shop")
    code, error = cloud.refused("project", "show", "shop")
    assert (code, error["reason"]) == (3, "PROJECT_NOT_FOUND")


def test_a_quota_is_set_shown_and_holds(cloud: Launched, tmp_path: Path) -> None:
    quota = cloud.ask("quota", "set", "small", "--instances", "1", "--vcpus", "none")
    assert quota["limits"]["instances"] == "1"
    token = cloud.ask("token", "create", "--project", "small", "--role", "member")["token"]
    (tmp_path / "token").write_text(token)
    small = Launched(cloud.home, cloud.port, {"STEAD_TOKEN_FILE": str(tmp_path / "token")})
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    small.ok("image", "import", str(disk), "--name", "disk")
    words = ("--flavor", "tiny", "--image", "disk")
    small.ok("instance", "create", "one", *words, "--wait")
    code, error = small.refused("instance", "create", "two", *words)
    assert (code, error["reason"]) == (6, "QUOTA_EXCEEDED")
    said = small.stead("instance", "create", "two", *words).stderr
    assert "stead quota show" in said
    assert "instances" in said
    lines = small.ok("quota", "show").splitlines()
    assert lines[0] == "project small"
    assert lines[2].split() == ["instances", "1", "1", "0"]
    assert small.refused("quota", "set", "--instances", "9")[1]["reason"] == "ROLE_MISSING"
    assert small.refused("quota", "show", "admin")[0] == 3
    cloud.ok("quota", "set", "small", "--instances", "none")
    small.ok("instance", "create", "two", *words, "--wait")
    code, error = cloud.refused("project", "delete", "small")
    assert (code, error["reason"]) == (5, "PROJECT_NOT_EMPTY")


def test_a_host_is_kept_free_and_says_why(cloud: Launched) -> None:
    closed = cloud.ask("host", "disable", "fake-0000", "--reason", "a new disk")
    assert (closed["enabled"], closed["disabled_reason"]) == (False, "a new disk")
    assert "UP, disabled" in cloud.ok("host", "list")
    kept = cloud.ask("host", "list", "--filter", 'enabled = "false"')
    assert [host["id"] for host in kept] == ["fake-0000"]
    assert {make(cloud, f"placed-{n}")["host_id"] for n in range(3)} == {"fake-0001"}
    assert cloud.ask("host", "enable", "fake-0000")["disabled_reason"] == ""


def test_what_no_host_has_begun_is_called_off(cloud: Launched) -> None:
    thinker = cloud.pids()["scheduler-0"]
    os.kill(thinker, signal.SIGSTOP)
    try:
        cloud.ok("instance", "create", "waits", "--flavor", "tiny", "--image", "disk")
        (waiting,) = cloud.ask("operation", "list", "--instance", "waits")
        assert waiting["cancellable"] is True
        would = cloud.stead("operation", "cancel", waiting["id"], "--dry-run")
        assert would.returncode == 0, would.stderr
        cancelled = cloud.ask("operation", "cancel", waiting["id"])
    finally:
        os.kill(thinker, signal.SIGCONT)
    assert cancelled["state"] == "OPERATION_STATE_CANCELLED"
    assert cancelled["error"]["reason"] == "CANCELLED_BY_CALLER"
    assert cloud.refused("instance", "show", "waits")[0] == 3
    assert cloud.stead("operation", "wait", waiting["id"]).returncode == 1
    code, error = cloud.refused("operation", "cancel", waiting["id"])
    assert (code, error["reason"]) == (5, "OPERATION_NOT_CANCELLABLE")


def test_waiting_ends_with_the_state_or_says_that_it_cannot_come(cloud: Launched) -> None:
    make(cloud, "awaited")
    assert cloud.ask("instance", "wait", "awaited")["task"] == "INSTANCE_TASK_NONE"
    with subprocess.Popen(
        [STEAD, "instance", "wait", "awaited", "--until", "stopped", "--output", "json"],
        env=cloud.variables(), stdout=subprocess.PIPE, text=True,
    ) as waiting:  # fmt: skip
        cloud.ok("instance", "stop", "awaited")
        said, _ = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 0
    assert json.loads(said)["state"] == "INSTANCE_STATE_STOPPED"
    with subprocess.Popen(
        [STEAD, "instance", "wait", "awaited", "--until", "ACTIVE", "--output", "json"],
        env=cloud.variables(), stderr=subprocess.PIPE, text=True,
    ) as waiting:  # fmt: skip
        cloud.ok("instance", "delete", "awaited")
        _, said = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode in (1, 3)
    assert json.loads(said)["reason"] in ("STATE_UNREACHABLE", "INSTANCE_NOT_FOUND")


def test_an_operation_is_watched_to_its_end_with_its_exit_code(cloud: Launched) -> None:
    make(cloud, "worked")
    (good,) = cloud.ask("operation", "list", "--instance", "worked")
    lines = [json.loads(line) for line in cloud.ok(
        "operation", "watch", good["id"], "--output", "json").splitlines()]  # fmt: skip
    assert lines[-1]["operation"]["state"] == "OPERATION_STATE_DONE"
    words = ("instance", "create", "toobig", "--flavor", "giant", "--image", "disk")
    cloud.ok(*words)
    bad = cloud.ask("operation", "list", "--instance", "toobig")[-1]
    ended = cloud.stead("operation", "watch", bad["id"])
    assert ended.returncode == 6
    assert "NO_VALID_HOST" in ended.stderr
    assert "CREATE_INSTANCE FAILED NO_VALID_HOST" in ended.stdout


class Watching:
    """A watch in a process of its own; what it has printed so far."""

    def __init__(self, cloud: Launched, *words: str) -> None:
        self.file = cloud.home.parent / f"watch-{len(words)}-{words[0]}"
        with self.file.open("w") as out:
            self.of = subprocess.Popen([STEAD, *words], env=cloud.variables(), stdout=out)

    def printed(self) -> str:
        return self.file.read_text()

    def end(self) -> None:
        self.of.send_signal(signal.SIGINT)
        self.of.wait(PATIENCE_S)


def test_watches_of_every_noun_tell_what_happens_and_what_leaves(cloud: Launched) -> None:
    instances = Watching(cloud, "instance", "watch", "--filter", 'labels.seen = "yes"')
    operations = Watching(cloud, "operation", "watch", "--output", "json")
    hosts = Watching(cloud, "host", "watch", "fake-0001")
    try:
        eventually(lambda: "fake-0001" in hosts.printed(), "the host's snapshot")
        eventually(lambda: "snapshot_done" in operations.printed(), "the operations' snapshot")
        make(cloud, "observed", "--label", "seen=yes")
        cloud.ok("instance", "update", "observed", "--label", "seen=no")
        cloud.ok("host", "disable", "fake-0001", "--reason", "look")
        cloud.ok("host", "enable", "fake-0001")
        eventually(lambda: "no longer matches" in instances.printed(), "it left the filter")
        eventually(lambda: "disabled: look" in hosts.printed(), "the host's change")
        eventually(lambda: "UPDATE_INSTANCE" in operations.printed(), "the operation's change")
    finally:
        for watching in (instances, operations, hosts):
            watching.end()
    assert "fake-0000" not in hosts.printed()
    assert "state=ACTIVE" in instances.printed()
    last = json.loads(operations.printed().splitlines()[-1])
    assert last["resume_token"]


def test_a_watch_goes_on_after_the_token_of_an_earlier_one(cloud: Launched) -> None:
    earlier = Watching(cloud, "instance", "watch", "--output", "json")
    try:
        eventually(lambda: "snapshot_done" in earlier.printed(), "the snapshot")
    finally:
        earlier.end()
    token = json.loads(earlier.printed().splitlines()[-1])["resume_token"]
    missed = make(cloud, "missed")
    later = Watching(cloud, "instance", "watch", "--resume-token", token)
    try:
        eventually(lambda: "state=ACTIVE" in later.printed(), "what was missed")
    finally:
        later.end()
    versions = [line.split()[2] for line in later.printed().splitlines() if "missed" in line]
    assert versions == [f"version={n}" for n in range(1, int(missed["version"]) + 1)]


def test_names_of_ones_own_things_are_offered_by_the_shell(cloud: Launched) -> None:
    make(cloud, "tabbed")
    environment = {
        **cloud.variables(),
        "_STEAD_COMPLETE": "complete_bash",
        "COMP_WORDS": "stead instance stop tab",
        "COMP_CWORD": "3",
    }
    offered = subprocess.run(
        [STEAD], env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert offered.stdout.split() == ["tabbed"]
    for line, one in (
        ("stead instance create x --flavor gi", "giant"),
        ("stead instance create x --image di", "disk"),
        ("stead host disable fake-0001", "fake-0001"),
    ):
        environment |= {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        offered = subprocess.run(
            [STEAD], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert offered.stdout.split() == [one], line


def test_labels_that_two_write_at_once_are_all_kept(cloud: Launched) -> None:
    make(cloud, "shared")
    writers = [
        subprocess.Popen(
            [STEAD, "instance", "update", "shared", "--label", f"writer-{n}=was-here"],
            env=cloud.variables(), stdout=subprocess.DEVNULL,
        )
        for n in range(4)
    ]  # fmt: skip
    assert [writer.wait(PATIENCE_S) for writer in writers] == [0, 0, 0, 0]
    assert len(cloud.ask("instance", "show", "shared")["labels"]) == 4
