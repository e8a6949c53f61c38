"""Holds the rules of the house that no linter knows: sizes, names, what is never written."""

from __future__ import annotations

import ast
import pathlib
import re
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FILE_LINES_MAX = 400
TEST_LINES_MAX = 450
FUNCTION_LINES_MAX = 60
BANNED = frozenset("util utils common helper manager misc base data info process handle".split())
BANNED_IN_CLASSES = frozenset(
    "Util Utils Common Helper Manager Misc Base Handler Info Data".split()
)


def sources(*rooms: str) -> list[pathlib.Path]:
    """Python files of rooms, without what is generated."""
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def tree(path: pathlib.Path) -> ast.Module:
    """A file as Python reads it."""
    return ast.parse(path.read_text(), str(path))


def place(path: pathlib.Path, line: int) -> str:
    """Where something stands, as an editor opens it."""
    return f"{path.relative_to(ROOT)}:{line}"


def test_no_file_is_too_long() -> None:
    long = {
        place(path, 1): lines
        for path in sources("services", "scripts")
        if (lines := len(path.read_text().splitlines())) > FILE_LINES_MAX
    }
    assert not long, f"over {FILE_LINES_MAX} lines"


def test_no_file_of_tests_is_too_long() -> None:
    long = {
        place(path, 1): lines
        for path in sources("tests")
        if (lines := len(path.read_text().splitlines())) > TEST_LINES_MAX
    }
    assert not long, f"over {TEST_LINES_MAX} lines"


def test_no_function_is_too_long() -> None:
    long = {}
    for path in sources("services", "scripts"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{place(path, node.lineno)} {node.name}"] = lines
    assert not long, f"over {FUNCTION_LINES_MAX} lines"


def defined(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Names that a module gives to things of its own."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def test_no_name_says_nothing() -> None:
    empty = []
    for path in sources("services", "scripts"):
        for name, line in defined(tree(path)):
            in_class = re.findall(r"[A-Z][a-z]+", name) if name[:1].isupper() else []
            if name.strip("_").lower() in BANNED or BANNED_IN_CLASSES & set(in_class):
                empty.append(f"{place(path, line)} {name}")
    assert not empty


def test_no_file_name_says_nothing(tracked: list[pathlib.Path]) -> None:
    empty = [
        str(path.relative_to(ROOT))
        for path in tracked
        if path.suffix in {".py", ".proto", ".sql"}
        and not path.is_relative_to(ROOT / "tests")
        and set(path.stem.removesuffix("_pb2").split("_")) & BANNED
    ]
    assert not empty


def test_no_part_of_the_contract_says_nothing() -> None:
    declared = re.compile(
        r"^\s*(?:(?:message|enum|service|rpc|oneof)\s+(\w+)|[\w.<>, ]+\s(\w+) = \d+)"
    )
    empty = []
    for path in sorted((ROOT / "proto").rglob("*.proto")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = declared.match(line)
            name = (found.group(1) or found.group(2)) if found else ""
            if name.lower() in BANNED:
                empty.append(f"{place(path, number)} {name}")
    assert not empty


# Written in two halves, so that this file does not say them either.
NEVER_WRITTEN = {
    "a test that replaces what it tests": "mock" + r"\.patch|monkey" + r"patch\.setattr",
    "a test that looks away": r"pytest\." + r"skip|mark\." + r"skip|mark\." + "xfail",
    "work left for later": r"\b(?:TO" + "DO|FIX" + "ME|XX" + r"X)\b",
    "a shell between us and a program": "shell" + "=True",
    "a package registry": r"py" + r"pi\.org|python" + r"hosted|npm" + r"js\.|crates" + r"\.io|"
    r"deb\.deb" + r"ian|proxy\.go" + r"lang|maven" + r"\.org|archive\.ubu" + "ntu",
    "a path of somebody's machine": "|".join(
        [r"(?<![\w.$}])/wor" + r"k/(?:main|shared|\.)", "/opt/whe" + "els", r"\.py" + r"env\b"]
    ),
}


@pytest.mark.parametrize("pattern", NEVER_WRITTEN.values(), ids=NEVER_WRITTEN.keys())
def test_nothing_committed_names(tracked: list[pathlib.Path], pattern: str) -> None:
    found = []
    for path in tracked:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{place(path, number)} {line.strip()[:80]}")
    assert not found


def test_every_exception_to_a_check_says_why() -> None:
    silent = []
    for path in sources("services", "scripts", "tests"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            found = re.search(
                r"# (?:no" + r"qa|type: ig" + r"nore)\b(?:: ?[A-Z0-9, ]+|\[[a-z-, ]+\])?(.*)", line
            )
            before = lines[number - 2].strip() if number > 1 else ""
            if found and not re.search(r"[a-z]{2}", found.group(1)) and not before.startswith("#"):
                silent.append(f"{place(path, number)} {line.strip()}")
    assert not silent


def foreign_imports(path: pathlib.Path) -> Iterator[tuple[str, int]]:
    """Top names of what a file imports from outside of the standard library."""
    for node in ast.walk(tree(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.split(".")[0] not in {*sys.stdlib_module_names, "services"}:
                yield name.split(".")[0], node.lineno


def test_what_decides_needs_nothing_from_outside() -> None:
    found = []
    for path in sources("services"):
        room = path.relative_to(ROOT / "services").parts
        allowed = {"numpy"} if "logic" in room else set()
        if room[0] == "domain" or "logic" in room:
            for name, line in foreign_imports(path):
                if name not in allowed:
                    found.append(f"{place(path, line)} {name}")
    assert not found


def test_what_decides_does_not_wait_and_asks_no_clock() -> None:
    clocks = {"asyncio", "time", "threading", "subprocess", "socket"}
    found = []
    for path in sources("services"):
        room = path.relative_to(ROOT / "services").parts
        if room[0] != "domain" and "logic" not in room:
            continue
        for node in ast.walk(tree(path)):
            waits = isinstance(node, ast.AsyncFunctionDef | ast.Await)
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if waits or clocks & set(named):
                found.append(place(path, getattr(node, "lineno", 0)))
    assert not found


@pytest.mark.parametrize("name", ["build.lock", "runtime.lock", "dev.lock"])
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"https?://|--index|--find-links|--extra", text)


def test_migrations_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in (ROOT / "services/conductor/migrations").glob("*.sql"))
    assert names
    for number, name in enumerate(names, 1):
        assert re.fullmatch(rf"{number:04}_[a-z]+(_[a-z]+)+\.sql", name), name


def test_every_dependency_is_explained() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    declared = re.findall(
        r'^  "([A-Za-z0-9-]+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    locked = {
        line.split("==")[0]
        for name in ("build.lock", "dev.lock")
        for line in (ROOT / "requirements" / name).read_text().splitlines()
        if "==" in line and not line.startswith(" ")
    }
    direct = [name for name in declared if name in locked]
    assert len(direct) > 30
    assert not [name for name in direct if f"`{name}`" not in text]
