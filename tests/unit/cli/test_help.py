"""What `--help` teaches is true: its examples parse, its sentences are whole, its words known."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
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

from services.cli.edges.api import service_config
from services.cli.edges.commands.examples import EXAMPLES
from services.cli.edges.commands.line import NOUNS, application
from services.cli.logic.refusal import ADVICE, PLAIN, Refusal, advice_on, as_text
from services.domain.reasons import REASONS

ROOT = Path(__file__).parents[3]
LINES = [(command, line) for command, lines in EXAMPLES.items() for line in lines]


def _words(line: str) -> list[str]:
    """What is typed after `stead` in a line of shell."""
    of_stead = next(part for part in line.split("|") if "stead " in part)
    before, _, after = of_stead.partition("stead ")
    return shlex.split(after.partition(" > ")[0].rstrip(')"') if "$(" in before else _plain(after))


def _plain(after: str) -> str:
    return after.partition(" > ")[0]


def _parse(words: list[str]) -> str:
    """The command that these words call. Raises UsageError for a flag that there is not."""
    command: Any = typer.main.get_command(application(words))
    context = command.make_context("stead", list(words))
    path = []
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        path.append(name)
        context = command.make_context(name, rest, parent=context)
    return " ".join(path)


@pytest.mark.parametrize(("command", "line"), LINES)
def test_every_example_can_be_typed_as_it_is(command: str, line: str) -> None:
    assert _parse(_words(line)) in {command, "instance list"}


def _tree() -> dict[str, Any]:
    commands: dict[str, Any] = {}
    for noun in NOUNS:
        group: Any = typer.main.get_command(application([noun]))
        commands |= {f"{noun} {n}": c for n, c in group.commands[noun].commands.items()}
    return commands


def test_every_example_belongs_to_a_command() -> None:
    assert set(EXAMPLES) <= set(_tree()) | {"up", "audit", "completion"}


def test_every_sentence_of_a_list_of_commands_is_whole() -> None:
    for path, command in _tree().items():
        assert "..." not in command.get_short_help_str(67), path


def test_what_changes_something_can_be_run_dry() -> None:
    reading = {"list", "show", "watch", "wait", "console", "audit"}
    for path, command in _tree().items():
        noun, verb = path.split()
        if verb in reading or noun == "token":
            continue
        assert "--dry-run" in {word for p in command.params for word in p.opts}, path


def test_every_method_of_the_contract_has_a_command() -> None:
    """By the stubs that the commands call; a new method cannot be forgotten."""
    text = "".join(p.read_text() for p in (ROOT / "services" / "cli").rglob("*.py"))
    modules = (
        audit_pb2, flavor_pb2, host_pb2, image_pb2, instance_pb2, key_pair_pb2, operation_pb2,
        project_pb2, quota_pb2,
    )  # fmt: skip
    methods = [
        method.name
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    assert len(methods) > 30
    assert [
        name for name in methods if f").{name}" not in text and f"stub.{name}" not in text
    ] == []


def test_the_channel_has_the_published_policy() -> None:
    published = (ROOT / "docs" / "service-config.json").read_text()
    assert json.loads(service_config()) == json.loads(published)


def test_every_reason_comes_with_something_to_do() -> None:
    assert set(ADVICE) <= set(REASONS)
    assert {reason for reason in REASONS if not advice_on(reason)} == PLAIN
    assert advice_on("NEVER_HEARD_OF") == ""
    shown = as_text(Refusal("ABORTED", "PORT_TAKEN", "taken"))
    assert len(shown.splitlines()) == 2


def test_a_tenant_is_sent_to_no_command_that_only_an_admin_may_use() -> None:
    of_admins = {"HOST_NOT_FOUND"}
    for reason, advice in ADVICE.items():
        if "stead host" in advice and reason not in of_admins:
            assert "admin" in advice, reason
