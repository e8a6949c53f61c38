"""Owns one rule of the contract: each element has a comment that says more than its name."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2

OURS = "stead/"
# Words that say nothing of a thing beyond its name and its kind.
EMPTY_WORDS = frozenset(
    """
    a actual all an and any are as associated at be been by can contains corresponding defines
    definition denotes describes enum field for from given has have holds if in indicates into is it
    its list message method name object of on one or query represents request resource respective
    response returns rpc service set sets some specified specifies that the their there these this
    those to type used value which will with your
    """.split()
)


class Element(NamedTuple):
    """A part of the contract: its full name, its own name, where it stands, what is said of it."""

    full_name: str
    name: str
    place: str
    comment: str


# Field numbers in descriptor.proto, of which the paths in source info consist.
FILE_PARTS = {4: "message_type", 5: "enum_type", 6: "service"}
MESSAGE_PARTS = {2: "field", 3: "nested_type", 4: "enum_type", 8: "oneof_decl"}
ENUM_PARTS = {2: "value"}
SERVICE_PARTS = {2: "method"}


def elements(file: descriptor_pb2.FileDescriptorProto) -> Iterator[Element]:
    """Every message, field, oneof, enum, value, service and rpc of a file, with its comment."""
    comments = {
        tuple(location.path): (location.leading_comments, location.span[0] + 1)
        for location in file.source_code_info.location
    }
    waiting: list[tuple[tuple[int, ...], str, Any]] = [((), file.package, file)]
    while waiting:
        path, full_name, parent = waiting.pop()
        for number, attribute in parts(parent).items():
            for index, child in enumerate(getattr(parent, attribute)):
                if is_made_by_protoc(parent, child):
                    continue
                here = (*path, number, index)
                named = f"{full_name}.{child.name}"
                comment, line = comments.get(here, ("", 0))
                yield Element(named, child.name, f"{file.name}:{line}", comment)
                waiting.append((here, named, child))


def parts(element: object) -> dict[int, str]:
    """Which lists of an element hold elements of their own."""
    kinds = {
        descriptor_pb2.FileDescriptorProto: FILE_PARTS,
        descriptor_pb2.DescriptorProto: MESSAGE_PARTS,
        descriptor_pb2.EnumDescriptorProto: ENUM_PARTS,
        descriptor_pb2.ServiceDescriptorProto: SERVICE_PARTS,
    }
    return kinds.get(type(element), {})


def is_made_by_protoc(parent: object, child: object) -> bool:
    """Whether an element stands in no source: entries of maps, and oneofs of optional fields."""
    if isinstance(child, descriptor_pb2.DescriptorProto):
        return child.options.map_entry
    if isinstance(child, descriptor_pb2.OneofDescriptorProto):
        assert isinstance(parent, descriptor_pb2.DescriptorProto)
        index = list(parent.oneof_decl).index(child)
        inside = [field for field in parent.field if field.HasField("oneof_index")]
        return any(field.proto3_optional for field in inside if field.oneof_index == index)
    return False


def words(text: str) -> set[str]:
    """The words of a text or of a CamelCase or snake_case name, in lower case, singular."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text).lower()
    return {stem(word) for word in re.findall(r"[a-z0-9]+", spaced)}


def stem(word: str) -> str:
    """A word without the endings that make no other word of it."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= (2 if ending == "s" else 3):
            return word.removesuffix(ending)
    return word


def says_nothing(element: Element) -> bool:
    """Whether nothing is left of the comment without its name's words and empty ones."""
    known = words(element.full_name) | {stem(word) for word in EMPTY_WORDS}
    return not words(element.comment) - known


def complaints(image: pathlib.Path) -> list[str]:
    """One line for each element of ours whose comment is missing or says nothing."""
    found = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    return [
        f"{element.place}: {element.full_name}: "
        + ("its comment says no more than its name" if element.comment else "has no comment")
        for file in found.file
        if file.name.startswith(OURS)
        for element in elements(file)
        if says_nothing(element)
    ]


if __name__ == "__main__":
    said = complaints(pathlib.Path(sys.argv[1]))
    print("\n".join(said))
    sys.exit(bool(said))
