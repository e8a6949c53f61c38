"""Owns that every reason is registered, with its codes, and named by a test that provokes it."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
from collections.abc import Iterator

import pytest

import reasons as written
from services.domain.kinds import ResourceKind
from services.domain.reason import Met
from services.domain.reasons import ALL, REASONS
from services.runtime.rpc import CODES

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE_OF_KIND = {kind.__name__: code.name for kind, code in CODES.items()}
CODE_OF_KIND["Illegal"] = "FAILED_PRECONDITION"
NOUNS = "|".join(kind.name for kind in ResourceKind)


@functools.cache
def places() -> tuple[written.Given, ...]:
    """Every place in services/ that gives a reason."""
    return tuple(
        place
        for path in sorted((ROOT / "services").rglob("*.py"))
        if not path.name.startswith("reason")
        for place in written.given(path)
        if not (place.by == "Refusal" and "cli" not in place.path.parts)
    )


def where(place: written.Given) -> str:
    """As an editor opens it."""
    return f"{place.path.relative_to(ROOT)}:{place.line}"


def names(place: written.Given) -> list[str]:
    """The reasons that it can give: a noun in it stands for every noun of the cloud."""
    pattern = place.pattern.replace("[A-Z_]+", f"(?:{NOUNS})")
    if pattern == place.pattern:
        return [re.sub(r"\\(.)", r"\1", place.pattern)]
    return [name for noun in NOUNS.split("|") if (name := noun + place.pattern[len("[A-Z_]+") :])]


def texts_of(module: ast.Module) -> Iterator[str]:
    """The texts of a file but its docstrings."""
    told = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def words_of(path: pathlib.Path) -> set[str]:
    """Upper-case words in the texts of a file, less the reasons that it gives by itself: who makes
    the error has not provoked it.
    """
    texts = texts_of(ast.parse(path.read_text()))
    words = {word for text in texts for word in re.findall(r"\b[A-Z][A-Z0-9_]+\b", text)}
    return words - {name for p in written.given(path) if p.by != "pair" for name in names(p)}


@functools.cache
def words_of_tests() -> frozenset[str]:
    """What tests name; comments, docstrings and fakes do not count."""
    paths = (ROOT / "tests").rglob("test_*.py")
    # House tests write of reasons, and provoke none.
    return frozenset().union(*(words_of(p) for p in paths if not {"house", "fakes"} & {*p.parts}))


def test_no_reason_is_registered_twice() -> None:
    assert len(ALL) == len(REASONS)


def test_a_reason_is_an_upper_snake_word_that_says_what_to_do() -> None:
    for reason in ALL:
        assert re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", reason.name), reason.name
        assert len(reason.name) <= 63, reason.name
        assert reason.codes, reason.name
        assert reason.meaning.endswith("."), reason.name
        assert reason.remedy, reason.name


def test_every_reason_in_code_can_be_read() -> None:
    assert [where(place) for place in places() if not place.pattern] == []


def test_every_reason_in_code_is_registered() -> None:
    found = {name: where(place) for place in places() for name in names(place)}
    assert len(found) > 80
    assert {name: at for name, at in found.items() if name and name not in REASONS} == {}


def test_every_reason_in_code_has_a_code_that_is_registered_for_it() -> None:
    coded = [
        (place, name, place.code or CODE_OF_KIND.get(place.by, ""))
        for place in places()
        for name in names(place)
    ]
    wrong = [
        f"{where(place)} {name} with {code}"
        for place, name, code in coded
        if code and name in REASONS and code not in REASONS[name].codes
    ]
    assert wrong == []


def test_every_reason_that_the_contract_promises_is_registered_with_its_code() -> None:
    promised = []
    for path in sorted((ROOT / "proto").rglob("*.proto")):
        text = re.sub(r"\n\s*//", " ", path.read_text())
        for code, listed in re.findall(r"\b([A-Z]+_?[A-Z]+) \(([A-Z][A-Z_, ]+)\)", text):
            promised += [(name, code) for name in re.findall(r"[A-Z_]+", listed)]
    assert len(promised) > 50
    unkept = [(n, c) for n, c in promised if n not in REASONS or c not in REASONS[n].codes]
    assert unkept == []


def test_every_registered_reason_is_given_by_code() -> None:
    found = {name for place in places() for name in names(place)}
    assert sorted(set(REASONS) - found) == []


@pytest.mark.parametrize("met", Met)
def test_every_registered_reason_is_named_by_a_test_that_provokes_it(met: Met) -> None:
    words = words_of_tests()
    unseen = [reason.name for reason in ALL if reason.met is met and reason.name not in words]
    assert unseen == []


def test_a_test_that_makes_an_error_by_itself_does_not_provoke_its_reason(
    tmp_path: pathlib.Path,
) -> None:
    """Nor does one that only writes of it."""
    source = tmp_path / "test_it.py"
    source.write_text(
        '"""Of TOLD_HERE."""\n'
        "fake = Unavailable('MADE_HERE', 'x')\n"
        "assert seen(fake).reason == 'MADE_HERE'\n"
        "assert answer.reason == 'PROVOKED'\n"
    )
    assert words_of(source) == {"PROVOKED"}


def test_what_cannot_be_read_is_seen(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "stray.py"
    source.write_text(
        "raise Invalid(word, 'x')\n"
        "raise NotFound(f'{kind.name}_NOT_FOUND', 'x')\n"
        "raise Invalid('STRAY' if x else 'OTHER', 'x')\n"
        "raise Unavailable(error.reason, 'x')\n"
        "fault = OperationFault(CANCELLED, 'CALLED_OFF', 'x')\n"
        "pair = ('GUEST_LOST', 'the host lost it')\n"
    )
    read = [(place.pattern, place.by, place.code) for place in written.given(source)]
    assert sorted(read) == sorted(
        [
            ("", "Invalid", ""),
            ("[A-Z_]+_NOT_FOUND", "NotFound", ""),
            ("STRAY", "Invalid", ""),
            ("OTHER", "Invalid", ""),
            ("CALLED_OFF", "OperationFault", "CANCELLED"),
            ("GUEST_LOST", "pair", ""),
        ]
    )
