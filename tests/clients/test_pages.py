"""Goal: what docs/clients.md teaches is what the tested programs do, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.domain import reasons

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text()
LANGUAGES = {"go": ("go", "*.go"), "js": ("node", "*.js"), "python": ("python", "*.py")}
SNIPPETS = [
    (language, text)
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    if language in LANGUAGES
]


def lines_of(text: str) -> str:
    """A text line by line, however far it is indented."""
    return "\n" + "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


@pytest.mark.parametrize(
    ("language", "snippet"), SNIPPETS, ids=[text.splitlines()[0].strip() for _, text in SNIPPETS]
)
def test_every_snippet_is_a_part_of_a_tested_program(language: str, snippet: str) -> None:
    folder, pattern = LANGUAGES[language]
    sources = [lines_of(path.read_text()) for path in (ROOT / "clients" / folder).glob(pattern)]
    assert any(lines_of(snippet) in source for source in sources)


def test_each_language_is_shown() -> None:
    assert {language for language, _ in SNIPPETS} == set(LANGUAGES)


def test_every_reason_that_the_page_names_is_one() -> None:
    words = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", PAGE))
    codes = {"DEADLINE_EXCEEDED", "FAILED_PRECONDITION"}
    assert words - codes <= set(reasons.REASONS)
