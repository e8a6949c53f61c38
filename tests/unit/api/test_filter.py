"""Filters and orders: what can be asked for, and that no text makes the parser fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stead.v1 import host_pb2, instance_pb2, operation_pb2

from services.api.edges.row_fields import fields_of
from services.api.logic.change import Change, Sight
from services.api.logic.filter import (
    CONDITIONS_MAX,
    FIELDS,
    FIELDS_OF_ADMINS,
    VALUES_MAX,
    BadFilter,
    Field,
    parse,
    text_of,
)
from services.api.logic.list_order import BadOrder, Order, order_from
from services.api.logic.row import Before, Row
from services.domain.condition import Condition
from services.domain.instance import State
from services.domain.kinds import ListOrder, ResourceKind

INSTANCE, OPERATION, HOST = ResourceKind.INSTANCE, ResourceKind.OPERATION, ResourceKind.HOST


def one(field: str, *values: str, negated: bool = False) -> tuple[Condition, ...]:
    return (Condition(field, values, negated=negated),)


@pytest.mark.parametrize(
    ("text", "kind", "conditions"),
    [
        ("", INSTANCE, ()),
        ("  ", HOST, ()),
        ('name = "a"', ResourceKind.FLAVOR, one("name", "a")),
        ('name="a"', ResourceKind.FLAVOR, one("name", "a")),
        ('name!="a"', ResourceKind.KEY_PAIR, one("name", "a", negated=True)),
        ('name = "a AND b = \\"c\\""', INSTANCE, one("name", 'a AND b = "c"')),
        ('name = "back\\\\slash"', INSTANCE, one("name", "back\\slash")),
        ('name IN ("a", "b")', INSTANCE, one("name", "a", "b")),
        ('name IN("a","b" , "c" )', INSTANCE, one("name", "a", "b", "c")),
        ('state = "ACTIVE"', INSTANCE, one("state", "3")),
        ('state IN ("ACTIVE", "INSTANCE_STATE_ERROR")', INSTANCE, one("state", "3", "5")),
        ('task != "NONE"', INSTANCE, one("task", "1", negated=True)),
        ('power = "INSTANCE_POWER_OFF"', INSTANCE, one("power", "3")),
        ('id = "ABC"', INSTANCE, one("id", "abc")),
        ('labels.tier = "web"', INSTANCE, one("labels.tier", "web")),
        ('labels.a.b/c-d_e="x"', INSTANCE, one("labels.a.b/c-d_e", "x")),
        ('labels."two words" != "x"', INSTANCE, one("labels.two words", "x", negated=True)),
        ('labels.AND = "AND"', INSTANCE, one("labels.AND", "AND")),
        ('state = "OPERATION_STATE_DONE"', OPERATION, one("state", "2")),
        ('action = "UPDATE_QUOTA"', OPERATION, one("action", "18")),
        ('phase = "BUILDING" ', OPERATION, one("phase", "2")),
        ('enabled = "true"', HOST, one("enabled", "true")),
        ('state = "UP"', HOST, one("state", "1")),
        ('visibility = "PUBLIC"', ResourceKind.IMAGE, one("visibility", "2")),
        ('kind = "QCOW2"', ResourceKind.IMAGE, one("kind", "1")),
        (
            ' state = "ACTIVE" AND name != "x"  AND name != "y" ',
            INSTANCE,
            (
                *one("state", "3"),
                *one("name", "x", negated=True),
                *one("name", "y", negated=True),
            ),
        ),
    ],
)
def test_a_filter_is_read(text: str, kind: ResourceKind, conditions: tuple[Condition, ...]) -> None:
    assert parse(text, kind) == conditions


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name", "expected =, != or IN at character 5"),
        ('name = "a', 'expected a "VALUE" at character 8'),
        ("name = a", "character 8"),
        ('name = "a" AND', "expected AND at character 12"),
        ('name = "a" AND ', "expected a field at character 15"),
        ('name = "a" and state = "ACTIVE"', "expected AND at character 12"),
        ('name = "a" OR name = "b"', "expected AND"),
        ('name < "a"', "character 6"),
        ('name NOT IN ("a")', "character 6"),
        ("name IN ()", 'expected a "VALUE"'),
        ('name IN "a"', "expected ("),
        ('name IN ("a" "b")', "expected , or )"),
        ('name IN ("a"', "expected , or )"),
        ('host_id = "h"', "no field host_id"),
        ('project_id = "p"', "no field project_id"),
        ('fault = "p"', "no field fault"),
        ('labels = "p"', "no field labels"),
        ('labels. = "p"', "no field labels"),
        ('state = "GONE"', "one of"),
        ('state = "active"', "one of"),
        ('state = "3"', "one of"),
        ('state = "OPERATION_STATE_DONE"', "one of"),
        ('name = "a\x00"', "character 8"),
        ('name = "\\n"', "character 8"),
        ('name = "a"; DROP TABLE instance', "expected AND"),
        (" AND ".join(['name = "a"'] * (CONDITIONS_MAX + 1)), "more than"),
        ("name IN (" + ", ".join(['"a"'] * (VALUES_MAX + 1)) + ")", "more than"),
    ],
)
def test_a_filter_that_cannot_be_read_says_where(text: str, word: str) -> None:
    parsed = parse(text, INSTANCE)
    assert isinstance(parsed, BadFilter)
    assert word in parsed.why


def test_what_went_wrong_with_a_filter_is_said_shortly() -> None:
    parsed = parse("labels." + "\u2002x" * 500, HOST)
    assert isinstance(parsed, BadFilter)
    assert len(parsed.why) < 300


@pytest.mark.parametrize("kind", [INSTANCE, OPERATION])
def test_fields_of_admins_are_unknown_to_others(kind: ResourceKind) -> None:
    for field in FIELDS_OF_ADMINS[kind]:
        refused = parse(f'{field} = "x"', kind)
        assert isinstance(refused, BadFilter)
        assert field not in refused.why.partition("the fields are")[2]
        assert parse(f'{field} = "x"', kind, cloud_admin=True) == one(field, "x")


@given(st.text(max_size=80), st.sampled_from(list(ResourceKind)))
def test_no_text_makes_the_parser_fail(text: str, kind: ResourceKind) -> None:
    assert isinstance(parse(text, kind), (tuple, BadFilter))


PIECES = st.sampled_from(
    ["name", "state", "labels.x", 'labels."y"', "=", "!=", "IN", "(", ")", ",", '"a"', "AND", " "]
)


@given(st.lists(PIECES, max_size=20).map("".join), st.sampled_from(list(ResourceKind)))
def test_no_heap_of_words_makes_the_parser_fail(text: str, kind: ResourceKind) -> None:
    parsed = parse(text, kind)
    if isinstance(parsed, tuple):
        assert parse(text_of(parsed, kind), kind) == parsed


PRINTABLE = st.text(max_size=40).filter(str.isprintable)


@st.composite
def conditions(draw: st.DrawFn, kind: ResourceKind) -> Condition:
    fields: dict[str, Field] = {**FIELDS[kind], **FIELDS_OF_ADMINS.get(kind, {})}
    name = draw(st.sampled_from(sorted(fields)))
    field = fields[name]
    if kind is INSTANCE and draw(st.booleans()):
        name, field = "labels." + draw(PRINTABLE), Field()
    values = PRINTABLE if not field.words else st.sampled_from(sorted(field.words.values()))
    if field.lower:
        values = values.map(str.lower).filter(lambda text: text == text.lower())
    if draw(st.booleans()):
        return Condition(name, (draw(values),), negated=True)
    return Condition(name, tuple(draw(st.lists(values, min_size=1, max_size=4))))


@given(st.data())
def test_what_a_filter_says_is_read_back_the_same(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([kind for kind in ResourceKind if FIELDS[kind]]))
    said = tuple(data.draw(st.lists(conditions(kind), max_size=CONDITIONS_MAX)))
    assert parse(text_of(said, kind), kind, cloud_admin=True) == said


@given(PRINTABLE.filter(bool))
def test_any_printable_name_can_be_asked_for(name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    assert parse(f'name = "{quoted}"', INSTANCE) == one("name", name)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (INSTANCE, instance_pb2.Instance(labels={"tier": "web"})),
        (OPERATION, operation_pb2.Operation()),
        (HOST, host_pb2.Host()),
    ],
)
def test_every_field_that_can_be_watched_is_read_from_bodies(
    kind: ResourceKind, message: instance_pb2.Instance | operation_pb2.Operation | host_pb2.Host
) -> None:
    wanted = {**FIELDS[kind], **FIELDS_OF_ADMINS.get(kind, {})}
    for field in wanted:
        held = getattr(message, field)
        setattr(message, field, "some" if isinstance(held, str) else type(held)(1))
    read = fields_of(kind, message.SerializeToString())
    for name, meant in wanted.items():
        expected = "some" if meant.words is None else next(iter(meant.words.values()))
        assert read[name] == expected, name
    if kind is INSTANCE:
        assert read["labels.tier"] == "web"


def test_nobody_watches_what_has_no_watch() -> None:
    with pytest.raises(ValueError, match="FLAVOR"):
        fields_of(ResourceKind.FLAVOR, b"")


@pytest.mark.parametrize(
    ("now", "before", "deleted", "sight"),
    [
        (State.ACTIVE, State.ACTIVE, False, Sight.CHANGED),
        (State.ACTIVE, State.STOPPED, False, Sight.CHANGED),
        (State.ACTIVE, None, False, Sight.CHANGED),
        (State.STOPPED, State.ACTIVE, False, Sight.LEFT),
        (State.DELETED, State.ACTIVE, True, Sight.CHANGED),
        (State.DELETED, State.STOPPED, True, Sight.UNSEEN),
        (State.STOPPED, State.ERROR, False, Sight.UNSEEN),
        (State.STOPPED, None, False, Sight.UNSEEN),
    ],
)
def test_a_filter_sees_what_matches_and_what_leaves(
    now: State, before: State | None, deleted: bool, sight: Sight
) -> None:
    def body(state: State) -> bytes:
        return instance_pb2.Instance(state=state.value).SerializeToString()  # type: ignore[arg-type]  # same numbers

    earlier = None if before is None else Before(body(before), 1, 0)
    row = Row(INSTANCE, "i", "p", 2, 2, 0, body(now), deleted=deleted, before=earlier)
    active = parse('state = "ACTIVE"', INSTANCE)
    assert isinstance(active, tuple)
    assert Change(row, fields_of, 0.0).seen(active) is sight
    assert Change(row, fields_of, 0.0).seen(()) is Sight.CHANGED


@pytest.mark.parametrize(
    ("text", "kind", "order"),
    [
        ("", INSTANCE, Order()),
        ("id", HOST, Order()),
        ("create_time", INSTANCE, Order()),
        ("create_time desc", OPERATION, Order(descending=True)),
        ("name", ResourceKind.FLAVOR, Order(ListOrder.NAME)),
        (" name  desc ", ResourceKind.IMAGE, Order(ListOrder.NAME, descending=True)),
    ],
)
def test_an_order_is_read(text: str, kind: ResourceKind, order: Order) -> None:
    assert order_from(text, kind) == order


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("state", INSTANCE),
        ("name", OPERATION),
        ("create_time", HOST),
        ("name", ResourceKind.PROJECT),
        ("name asc", INSTANCE),
        ("name DESC", INSTANCE),
        ("name, id", INSTANCE),
        ("desc", INSTANCE),
    ],
)
def test_an_order_that_no_index_keeps_is_refused(text: str, kind: ResourceKind) -> None:
    refused = order_from(text, kind)
    assert isinstance(refused, BadOrder)
    assert "id" in refused.why
