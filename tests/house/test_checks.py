"""Breaks one thing in a copy of the checkout and sees the check that guards it fail."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
Check = Callable[..., "subprocess.CompletedProcess[str]"]


def edit(path: pathlib.Path, pattern: str, replacement: str) -> None:
    """Changes the first place that matches; a pattern that fits nowhere is a broken test."""
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, f"{pattern} not found in {path.name}"
    path.write_text(text)


def test_the_checkout_passes_every_check(check: Check) -> None:
    ended = check(ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_field_of_another_type_breaks_the_promise(copy: pathlib.Path, check: Check) -> None:
    promise(copy)
    edit(copy / "proto/stead/v1/flavor.proto", r"^  string id = 1", "  bytes id = 1")
    ended = check(copy, "proto-breaking")
    assert ended.returncode == 1
    assert "changed type" in ended.stdout


def test_a_field_that_goes_breaks_the_promise(copy: pathlib.Path, check: Check) -> None:
    promise(copy)
    edit(copy / "proto/stead/v1/flavor.proto", r"^  string id = 1.*;$", "")
    ended = check(copy, "proto-breaking")
    assert ended.returncode == 1
    assert "was deleted" in ended.stdout


def test_a_contract_that_nobody_promised_fails(copy: pathlib.Path, check: Check) -> None:
    (copy / "proto/released.binpb").unlink(missing_ok=True)
    ended = check(copy, "proto-breaking")
    assert ended.returncode == 1
    assert "make release" in ended.stdout


def test_a_release_refuses_a_break_that_no_decision_names(copy: pathlib.Path) -> None:
    promise(copy)
    before = (copy / "proto/released.binpb").read_bytes()
    edit(copy / "proto/stead/v1/flavor.proto", r"^  string id = 1", "  bytes id = 1")
    ended = release(copy)
    assert ended.returncode == 1
    assert (copy / "proto/released.binpb").read_bytes() == before


def test_a_release_breaks_what_a_decision_names(copy: pathlib.Path, check: Check) -> None:
    promise(copy)
    before = (copy / "proto/released.binpb").read_bytes()
    edit(copy / "proto/stead/v1/flavor.proto", r"^  string id = 1", "  bytes id = 1")
    make_code(copy)
    (copy / "adr.md").write_text("# 1. Why\n")
    ended = release(copy, "--breaking", "adr.md")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (copy / "proto/released.binpb").read_bytes() != before
    assert check(copy, "proto-breaking").returncode == 0


def test_a_release_without_the_decision_that_it_names_is_refused(copy: pathlib.Path) -> None:
    ended = release(copy, "--breaking", "docs/adr/none.md")
    assert ended.returncode == 2
    assert "docs/adr/none.md" in ended.stderr


@pytest.mark.parametrize("comment", ["// The ids of the flavor.", "// Id.", ""])
def test_a_comment_that_only_repeats_the_name_fails(
    copy: pathlib.Path, check: Check, comment: str
) -> None:
    flavor = copy / "proto/stead/v1/flavor.proto"
    edit(flavor, r"(^  //.*\n)+  string id = 1", f"  {comment}\n  string id = 1")
    ended = check(copy, "proto-comments")
    assert ended.returncode == 1
    assert "stead.v1.Flavor.id" in ended.stdout


def test_a_name_against_the_protos_style_fails(copy: pathlib.Path, check: Check) -> None:
    edit(copy / "proto/stead/v1/flavor.proto", r"^  string id = 1", "  string theId = 1")
    ended = check(copy, "proto-lint")
    assert ended.returncode == 1
    assert "lower_snake_case" in ended.stdout


def test_a_badly_set_proto_fails(copy: pathlib.Path, check: Check) -> None:
    edit(copy / "proto/stead/v1/flavor.proto", r"^  string id = 1", "    string   id = 1")
    assert check(copy, "proto-format").returncode == 1


def test_generated_code_older_than_the_protos_fails(copy: pathlib.Path, check: Check) -> None:
    edit(copy / "proto/stead/v1/flavor.proto", r"^  string id = 1", "  string word = 1")
    ended = check(copy, "generated")
    assert ended.returncode == 1
    assert "stead/v1/flavor_pb2.py" in ended.stdout


def test_generated_code_that_was_edited_fails(copy: pathlib.Path, check: Check) -> None:
    with (copy / "generated/stead/v1/flavor_pb2.py").open("a") as made:
        made.write("# a hand was here\n")
    assert check(copy, "generated").returncode == 1


def test_a_page_older_than_the_code_that_it_is_made_from_fails(
    copy: pathlib.Path, check: Check
) -> None:
    assert check(copy, "docs").returncode == 0
    edit(copy / "services/domain/reasons.py", r'"NAME_TAKEN"', '"NAME_IN_USE"')
    ended = check(copy, "docs")
    assert ended.returncode == 1
    assert "docs/errors.md" in ended.stdout
    made = [sys.executable, "scripts/docs.py"]
    subprocess.run(made, cwd=copy, timeout=60, check=True)
    assert "`NAME_IN_USE`" in (copy / "docs/errors.md").read_text()
    assert check(copy, "docs").returncode == 0


WALLS = {
    "a service imports another": (
        "services/api/flows/stray.py",
        "import services.scheduler.logic",
    ),
    "logic imports an edge": ("services/compute/logic/stray.py", "import services.compute.edges"),
    "logic knows a foreign party": ("services/scheduler/logic/stray.py", "import nats"),
    "logic knows a process": ("services/scheduler/logic/stray.py", "import services.runtime.clock"),
    "a flow knows the wire": (
        "services/conductor/flows/stray.py",
        "import stead.v1.instance_pb2",
    ),
    "domain knows the wire": ("services/domain/stray.py", "import google.protobuf.message"),
    "runtime knows a service": ("services/runtime/stray.py", "import services.conductor"),
    "a file has no room": ("services/api/stray.py", ""),
    "a service has no place": ("services/stray.py", ""),
}


@pytest.mark.parametrize(("place", "line"), WALLS.values(), ids=WALLS.keys())
def test_a_wall_holds_when(copy: pathlib.Path, check: Check, place: str, line: str) -> None:
    (copy / place).write_text(f'"""A stray."""\n\n{line}\n')
    ended = check(copy, "walls")
    assert ended.returncode == 1
    assert "stray" in ended.stdout


def test_an_untyped_function_fails(copy: pathlib.Path, check: Check) -> None:
    (copy / "services/domain/stray.py").write_text('"""A stray."""\n\n\ndef f(x):\n    return x\n')
    ended = check(copy, "types-3.11")
    assert ended.returncode == 1
    assert "stray.py" in ended.stdout


@pytest.mark.parametrize(
    "line",
    [
        "import subprocess\n\nsubprocess.run('ls', shell" + "=True, check=True)",
        "from unittest.mock import patch",
    ],
)
def test_a_line_against_the_style_fails(copy: pathlib.Path, check: Check, line: str) -> None:
    (copy / "services/domain/stray.py").write_text(f'"""A stray."""\n\n{line}\n')
    ended = check(copy, "style")
    assert ended.returncode == 1
    assert "stray.py" in ended.stdout


def make_code(copy: pathlib.Path) -> None:
    """`make proto` in the copy."""
    subprocess.run([sys.executable, "scripts/proto.py"], cwd=copy, timeout=120, check=True)


def promise(copy: pathlib.Path) -> None:
    """Promises the copy's contract as it is, whatever else may be said of it."""
    made = (
        "import check, proto, release; check.BUILD.mkdir(); proto.write_image(check.IMAGE); "
        "check.RELEASED.write_bytes(release.without_comments(check.IMAGE))"
    )
    environment = {**os.environ, "PYTHONPATH": str(copy / "scripts")}
    subprocess.run([sys.executable, "-c", made], cwd=copy, env=environment, timeout=120, check=True)


def release(copy: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make release` in the copy."""
    return subprocess.run(
        [sys.executable, "scripts/release.py", *arguments],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
