"""Owns which reasons the code gives, read from its syntax tree; judges nothing.

A reason is the first word of a CloudError, a StepFailed, a Failure or an Illegal, the second of an
OperationFault, the command's Refusal, `reason=` of any of them, or the first of a pair of texts.
What only hands on another error's reason is none.
"""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = frozenset(
    "Invalid NotFound AlreadyExists Conflict WrongState Unsupported NoCapacity OutOfRange Denied "
    "Unauthenticated Unavailable Broken".split()
)
FIRST = KINDS | {"StepFailed", "Failure", "Illegal"}
SECOND = frozenset({"OperationFault", "Refusal"})
NAMED = frozenset({"ItemError", "OperationError"})
WORD = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
PAIRED = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")


class Given(NamedTuple):
    """One place that gives a reason. `pattern` matches the names that it can give: a regular
    expression, since some name their noun. `by` is the word that is called, "pair" for a pair of
    texts; `code` the name of a code beside it, if one is written. An empty pattern is a reason that
    cannot be read.
    """

    pattern: str
    by: str
    code: str
    path: pathlib.Path
    line: int


def given(path: pathlib.Path) -> Iterator[Given]:
    """Every reason that a file gives."""
    tree = ast.parse(path.read_text(), str(path))
    unpacked = _unpacked(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple):
            yield from _pair(node, path)
        if not isinstance(node, ast.Call):
            continue
        by = _called(node.func)
        written = _reason_of(node, by)
        if written is None or (isinstance(written, ast.Name) and written.id in unpacked):
            continue
        code = ast.unparse(node.args[0]).strip("'") if by in SECOND and node.args else ""
        for pattern in _patterns(written):
            yield Given(pattern, by, code if WORD.fullmatch(code) else "", path, node.lineno)


def _unpacked(tree: ast.Module) -> set[str]:
    """Names that are only ever bound by taking a pair apart: pairs are read where they stand."""
    bound: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Store):
            names = [name.id for name in node.elts if isinstance(name, ast.Name)]
            bound |= {name: bound.get(name, True) for name in names}
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound |= {t.id: False for t in targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.arg):
            bound[node.arg] = False
    return {name for name, only in bound.items() if only}


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _reason_of(call: ast.Call, by: str) -> ast.expr | None:
    if by not in FIRST | SECOND | NAMED:
        return None
    for keyword in call.keywords:
        if keyword.arg == "reason":
            return keyword.value
    place = 0 if by in FIRST else 1
    if by in NAMED or len(call.args) <= place or isinstance(call.args[0], ast.Starred):
        return None
    return call.args[place]


def _patterns(written: ast.expr) -> Iterator[str]:
    match written:
        case ast.Constant(value=str(text)):
            # An enum's value or an empty one is no word of ours.
            if text:
                yield re.escape(text)
        case ast.JoinedStr(values=values):
            yield "".join(
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[A-Z_]+"
                for part in values
            )
        case ast.IfExp(body=one, orelse=other):
            yield from _patterns(one)
            yield from _patterns(other)
        case ast.BoolOp(values=choices):
            for choice in choices:
                yield from _patterns(choice)
        case ast.Attribute(attr="reason"):
            return
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            yield from _patterns(inner)
        case ast.Subscript() | ast.Call():
            return
        case _:
            yield ""


def _pair(node: ast.Tuple, path: pathlib.Path) -> Iterator[Given]:
    if len(node.elts) != 2:
        return
    first, second = node.elts
    is_text = isinstance(second, ast.JoinedStr) or (
        isinstance(second, ast.Constant) and isinstance(second.value, str) and " " in second.value
    )
    word = first.value if isinstance(first, ast.Constant) else None
    if is_text and isinstance(word, str) and PAIRED.fullmatch(word):
        yield Given(re.escape(word), "pair", "", path, node.lineno)
