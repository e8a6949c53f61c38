"""Transcripts in docs: commands with what they printed, run again and compared by shape.

Owns what a shape is: the same words but for what is new each time (ids, times, tokens, revisions).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

MARK = "<<<end of a step>>>"
DEADLINE_S = 240
NEW_EACH_TIME = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r'"(revision|epoch)": "\d+"', r'"\1": "N"'),
    (r'"(resumeToken|etag|digest|correlationId|value)": "[^"]+"', r'"\1": "OPAQUE"'),
    # Go's writers of JSON put a space after some marks or not, as they please.
    (r"([{}\[\],:])\s+", r"\1"),
    (r"\s+", " "),
)


class Step(NamedTuple):
    """A command and what it printed on either of its outputs."""

    command: str
    printed: str


def steps_of(page: str, title: str) -> list[Step]:
    """The steps in the console blocks below a heading of a page."""
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(title))
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found: list[Step] = []
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            last = next(n for n, line in enumerate(lines) if not line.endswith("\\"))
            found.append(Step("\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])))
    return found


def rerun(
    steps: list[Step], folder: Path, environment: Mapping[str, str], told: Mapping[str, str]
) -> list[Step]:
    """The same commands in one shell, with what they print now; `told` are words to be replaced."""
    script = ["set -u"]
    for step in steps:
        command = step.command
        for shown, own in told.items():
            command = command.replace(shown, own)
        script += [command, f"echo; echo '{MARK}'"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env=dict(environment),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    printed = done.stdout.split(MARK)
    assert len(printed) == len(steps) + 1, f"the shell gave up:\n{done.stdout}"
    return [
        Step(step.command, said.strip("\n")) for step, said in zip(steps, printed[:-1], strict=True)
    ]


def shape(text: str) -> str:
    """What stays the same however often a command is run."""
    for pattern, word in NEW_EACH_TIME:
        text = re.sub(pattern, word, text)
    return text.strip()
