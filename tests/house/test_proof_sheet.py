"""Owns that the proof sheet names tests that are there, and leaves no row without a result; a row
of work under way says that it is open.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHEET = (ROOT / "docs" / "acceptance.md").read_text()
TESTS = {
    path.relative_to(ROOT / "tests").as_posix(): path.read_text()
    for path in (ROOT / "tests").rglob("*.py")
}


def test_every_file_that_the_proof_sheet_names_is_there() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+test_\w+\.py)", SHEET))
    assert named
    assert sorted(named - set(TESTS)) == []


def test_every_test_that_the_proof_sheet_names_is_there() -> None:
    named = re.findall(r"::(test_\w+)(…?)", SHEET)
    assert named
    written = "\n".join(TESTS.values())
    missing = [name for name, _ in named if not re.search(rf"def {name}", written)]
    assert missing == []


def test_every_row_of_the_proof_sheet_has_a_result() -> None:
    rows = re.findall(r"^\| [FS]*\d[\d.]* \|.*\|$", SHEET, re.MULTILINE)
    assert len(rows) > 100
    result = re.compile(r"\| (passed \d{4}-\d\d-\d\d|open).* \|$")
    assert [row for row in rows if not result.search(row)] == []
