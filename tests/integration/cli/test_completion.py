"""The shells complete what the installed command offers; without a cloud, its words alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STEAD = Path(sys.executable).parent / "stead"
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
        (("stead", "aud"), {"audit"}),
        (("stead", "instance", "ev"), {"evacuate"}),
        (("stead", "host", "f"), {"fence"}),
        (("stead", "host", "rem"), {"remove"}),
        (("stead", "host", "au"), {"audit"}),
        (("stead", "host", "disc"), {"discard-guest"}),
        (("stead", "host", "discard-guest", "rack1-7", "some", "7", "--dry"), {"--dry-run"}),
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
