"""Owns that the proof sheet and the page of the protocol name tests that are there, and that the
sheet leaves no row without a result; a row of work under way says that it is open.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHEET = (ROOT / "docs" / "acceptance.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
TESTS = {
    path.relative_to(ROOT / "tests").as_posix(): path.read_text()
    for path in (ROOT / "tests").rglob("*.py")
}


def test_every_file_that_the_proof_sheet_names_is_there() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+test_\w+\.py)", SHEET + PROTOCOL))
    assert named
    assert sorted(named - set(TESTS)) == []


def named_tests(page: str) -> list[tuple[str, str, bool]]:
    """File, test, whether only its beginning is written; `…` stands for the file before it."""
    found = []
    for row in page.splitlines():
        file = ""
        for place, name, more in re.findall(r"`([^`\s]*)::(test_\w+)(…?)", row):
            file = file if place == "…" else place
            found.append((file, name, bool(more)))
    return found


def is_written(file: str, name: str, more: bool) -> bool:
    """Whether that file has that test."""
    end = "" if more else r"\("
    return bool(re.search(rf"^ *(async )?def {name}{end}", TESTS.get(file, ""), re.MULTILINE))


def test_every_test_that_the_proof_sheet_names_is_in_the_file_that_it_names() -> None:
    named = named_tests(SHEET)
    assert len(named) > 150
    assert [place for place in named if not is_written(*place)] == []


def test_every_rule_of_the_protocol_names_a_test_that_is_there() -> None:
    named = named_tests(PROTOCOL)
    assert len(named) > 50
    assert [place for place in named if not is_written(*place)] == []


def test_every_row_of_the_proof_sheet_has_a_result() -> None:
    rows = re.findall(r"^\| [FNSD]*\d[\d.]* \|.*\|$", SHEET, re.MULTILINE)
    assert len(rows) > 100
    result = re.compile(r"\| (passed \d{4}-\d\d-\d\d|open).* \|$")
    assert [row for row in rows if not result.search(row)] == []
