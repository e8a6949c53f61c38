"""What `--help` teaches is true: its examples parse, its sentences are whole, its words known."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from stead.v1 import (
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
STEAD = Path(sys.executable).parent / "stead"
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
    assert set(EXAMPLES) <= set(_tree()) | {"up", "completion"}


def test_every_sentence_of_a_list_of_commands_is_whole() -> None:
    for path, command in _tree().items():
        assert "..." not in command.get_short_help_str(67), path


def test_what_changes_something_can_be_run_dry() -> None:
    reading = {"list", "show", "watch", "wait", "console"}
    for path, command in _tree().items():
        noun, verb = path.split()
        if verb in reading or noun == "token":
            continue
        assert "--dry-run" in {word for p in command.params for word in p.opts}, path


def test_every_method_of_the_contract_has_a_command() -> None:
    """By the stubs that the commands call; a new method cannot be forgotten."""
    text = "".join(p.read_text() for p in (ROOT / "services" / "cli").rglob("*.py"))
    modules = (
        flavor_pb2, host_pb2, image_pb2, instance_pb2, key_pair_pb2, operation_pb2, project_pb2,
        quota_pb2,
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


COMPLETE_BASH = """
eval "$(stead completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=()
_stead_completion stead
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _complete(*words: str, home: Path) -> list[str]:
    ended = subprocess.run(
        ["bash", "-c", COMPLETE_BASH, "bash", *words],
        env={"PATH": f"{STEAD.parent}:/usr/bin:/bin", "STEAD_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stderr == ""
    return [word for word in ended.stdout.splitlines() if word]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("stead", "ins"), {"instance"}),
        (("stead", "instance", "st"), {"start", "stop"}),
        (("stead", "instance", "reboot", "web", "--h"), {"--hard", "--help"}),
        (("stead", "completion", ""), {"bash", "zsh", "fish"}),
        (("stead", "instance", "list", "--output", ""), {"table", "json"}),
        (("stead", "instance", "show", ""), set()),
        (("stead", "instance", "update", "web", "--name", "it's"), set()),
    ],
)
def test_bash_completes_words_and_is_silent_without_a_cloud(
    words: tuple[str, ...], offered: set[str], tmp_path: Path
) -> None:
    assert set(_complete(*words, home=tmp_path / "none")) == offered


@pytest.mark.parametrize(
    ("shell", "asked", "answer"),
    [
        ("zsh", {}, '"stop":"Shuts an ACTIVE instance down'),
        (
            "fish",
            {"_TYPER_COMPLETE_FISH_ACTION": "get-args"},
            "stop\tShuts an ACTIVE instance down",
        ),
    ],
)
def test_zsh_and_fish_are_told_words_and_what_they_mean(
    shell: str, asked: dict[str, str], answer: str, tmp_path: Path
) -> None:
    script = subprocess.run(
        [STEAD, "completion", shell], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert f"_STEAD_COMPLETE=complete_{shell}" in script
    environment = {
        "PATH": "/usr/bin:/bin",
        "STEAD_HOME": str(tmp_path / "none"),
        "_STEAD_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "stead instance sto",
        **asked,
    }
    ended = subprocess.run(
        [STEAD], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert answer in ended.stdout
