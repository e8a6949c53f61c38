"""Requests from descriptors, as bytes: what a careless or hostile client might send.

Owns a Hypothesis strategy per message type, the only one of the tests. Beside plausible values it
gives the edges of integers, NaN, text that is not UTF-8, several members of a oneof, repeated
scalars, fields of the wrong wire type, unknown fields, deep nesting and spoilt bytes.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# Words that exist in the cloud, by the noun that they are ids of.
Known = Mapping[str, Sequence[str]]

VARINT, FIXED64, LENGTH, GROUP_START, GROUP_END, FIXED32 = 0, 1, 2, 3, 4, 5
DEPTH_MAX = 4
NUMBERS = (0, 1, 2, 7, 60, 1000, -1, 2**31 - 1, -(2**31), 2**31, 2**32, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 1.5, float("nan"), float("inf"), float("-inf"), 5e-324)
TEXTS = (
    "", "a", "web", "h1", "admin", "*", "name", "labels", "id desc", "\x00", "a\nb", "\u202e", " x",
    "../../etc/passwd", "%s%n", '" OR 1=1 --', "ä" * 200, "z" * 5000, "=" * 300,
    'name = "x"', 'state != "ACTIVE"', 'labels.a IN ("b", "c")', 'name = "',
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA x",
)  # fmt: skip
# What a field of this name is likely to hold; an id is one of its noun, others hold any known word.
LIKELY = {
    "filter": ("", "", 'name = "web"', 'name != "a" AND id IN ("b")'),
    "order_by": ("", "", "id desc", "create_time"),
    "page_token": ("",),
    "resume_token": ("",),
    "etag": ("",),
    "paths": ("*", "name", "labels", "display_name", "instances"),
    "digest": ("0" * 64,),
    "name": tuple(f"n-{number}" for number in range(200)),
    "public_key": TEXTS[-1:],
    "ssh_public_keys": TEXTS[-1:],
    "key": ("a", "web"),
    "value": ("", "b"),
}
BROKEN_TEXTS = (b"\xff", b"\xc3", b"ok\xed\xa0\x80", b"\xf8\x88\x80\x80\x80")
NUMERIC = {
    FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM,
}  # fmt: skip


def varint(number: int) -> bytes:
    """A number as protobuf writes it; negative ones in ten bytes."""
    number &= 2**64 - 1
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def tagged(number: int, wire_type: int, content: bytes) -> bytes:
    """One field; `content` of LENGTH gets its length."""
    head = varint(number << 3 | wire_type)
    return head + (varint(len(content)) + content if wire_type == LENGTH else content)


def drawn(descriptor: Descriptor, known: Known, count: int) -> list[list[bytes]]:
    """`count` requests of a method that takes this type, each one to three messages; always the
    same ones.
    """
    found: list[list[bytes]] = []

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True,
        phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(sent(descriptor, known), min_size=1, max_size=3))
    def draw(contents: list[bytes]) -> None:
        found.append(contents)

    draw()
    return found


def sent(descriptor: Descriptor, known: Known) -> Any:
    """Bytes of a message of this type, now and then with a piece replaced by others."""
    whole = messages(descriptor, known)
    cut = st.tuples(whole, st.integers(0, 300), st.binary(max_size=4))
    spoilt = cut.map(lambda p: p[0][: p[1]] + p[2] + p[0][p[1] + 1 :])
    return st.one_of(*[whole] * 6, spoilt)


def messages(descriptor: Descriptor, known: Known, depth: int = 0) -> Any:
    """Bytes of a message of this type."""
    # An honest client sets one member of a oneof.
    alone = [field for field in descriptor.fields if not field.containing_oneof]
    tame = [_tame(field, known, depth) for field in alone]
    tame += [
        st.one_of(*[_tame(field, known, depth) for field in oneof.fields])
        for oneof in descriptor.oneofs
    ]
    likely = st.tuples(*tame).map(list) if tame else st.just([])
    fields = [_field(field, known, depth) for field in descriptor.fields]
    some = st.lists(st.one_of(*fields), max_size=8) if fields else st.just([])
    # Mostly all fields once, so that the outer checks are passed and the inner ones met.
    whole = st.tuples(*fields).map(list) if fields else st.just([])
    strange = st.tuples(some, _unknown()).map(lambda p: [*p[0], p[1]])
    return st.one_of(likely, likely, likely, whole, some, strange).map(b"".join)


def _words(field: FieldDescriptor, known: Known) -> Any:
    """What an honest client would write into this field."""
    if field.name == "request_id":
        return st.uuids().map(str)
    if field.name in LIKELY:
        return st.sampled_from(LIKELY[field.name])
    holder = re.sub(r"(?<!^)(?=[A-Z])", "_", field.containing_type.name).lower()
    noun = field.name.removesuffix("s").removesuffix("_id")
    holder = holder.replace("console", "instance")
    nouns = [n for n in known if n == noun or (field.name == "id" and n in holder)]
    named = known[max(nouns, key=len)] if nouns else [w for words in known.values() for w in words]
    return st.sampled_from(named)


def _tame(field: FieldDescriptor, known: Known, depth: int) -> Any:
    """The field as an honest client would set it, or left out."""

    def tag(wire_type: int) -> Any:
        return lambda content: tagged(field.number, wire_type, content)

    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.sampled_from((0, 0, 1)).map(varint).map(tag(VARINT))
    if field.type in NUMERIC:
        low, high = (1, 3) if field.name in ("vcpus", "disk_gib") else (0, 3)
        if field.name == "memory_mib":
            low, high = 64, 256
        return st.integers(low, high).map(varint).map(tag(VARINT))
    if field.type == FieldDescriptor.TYPE_STRING:
        once = _words(field, known).map(str.encode).map(tag(LENGTH))
        return st.one_of(once, st.just(b"")) if field.is_repeated else once
    if field.type == FieldDescriptor.TYPE_MESSAGE and depth < DEPTH_MAX:
        inner = messages(field.message_type, known, depth + 1).map(tag(LENGTH))
        return st.one_of(inner, st.just(b""))
    return st.just(b"")


def _field(field: FieldDescriptor, known: Known, depth: int) -> Any:
    once = _value(field, known, depth)
    if field.is_repeated:
        return st.lists(once, max_size=3).map(b"".join)
    return st.one_of(once, once, once, st.just(b""), _wrong(field.number))


def _value(field: FieldDescriptor, known: Known, depth: int) -> Any:
    def tag(wire_type: int) -> Any:
        return lambda content: tagged(field.number, wire_type, content)

    if field.type in NUMERIC:
        return st.one_of(st.sampled_from(NUMBERS), st.integers(-5, 70)).map(varint).map(tag(VARINT))
    if field.type == FieldDescriptor.TYPE_STRING:
        all_known = [word for words in known.values() for word in words]
        words = st.sampled_from(all_known * 3 + [*TEXTS]) | st.text(max_size=70)
        texts = words.map(lambda word: word.encode("utf-8", "surrogatepass"))
        return st.one_of(*[texts] * 15, st.sampled_from(BROKEN_TEXTS)).map(tag(LENGTH))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=64).map(tag(LENGTH))
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.sampled_from(FLOATS).map(lambda f: struct.pack("<d", f)).map(tag(FIXED64))
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return st.sampled_from(FLOATS).map(lambda f: struct.pack("<f", f)).map(tag(FIXED32))
    assert field.type == FieldDescriptor.TYPE_MESSAGE, field.full_name
    if depth >= DEPTH_MAX:
        return st.just(tagged(field.number, LENGTH, b""))
    return messages(field.message_type, known, depth + 1).map(tag(LENGTH))


def _wrong(number: int) -> Any:
    """The field under a wire type that may not be its own."""
    return st.sampled_from(
        [
            tagged(number, VARINT, varint(3)),
            tagged(number, LENGTH, b"\x0a\x01x"),
            tagged(number, FIXED32, b"\x00" * 4),
            tagged(number, FIXED64, b"\xff" * 8),
        ]
    )


def _unknown() -> Any:
    deep = tagged(77, GROUP_START, b"") * 150 + tagged(77, GROUP_END, b"") * 150
    nested = b""
    for _ in range(120):
        nested = tagged(1, LENGTH, nested)
    return st.sampled_from(
        [
            tagged(2**29 - 1, VARINT, varint(2**64 - 1)),
            tagged(9999, LENGTH, b"\xff" * 100),
            deep,
            nested,
            b"\x00",
            b"\xff" * 12,
            tagged(1, LENGTH, b"")[:-1] + b"\x7f",
        ]
    )
