"""Lists: pages of one revision, tokens bound to their arguments, pages that end early."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.flows.follow_feed import Feed
from services.api.flows.list_rows import PAGE_BYTES_MAX, ListAsk, ListPage, list_rows
from services.api.logic.caller import Caller, Role
from services.api.logic.row import Row
from services.domain.errors import CloudError, Denied, Invalid, OutOfRange
from services.domain.kinds import ResourceKind
from tests.examples import examples
from tests.fakes.changelog import Changelog, hear, replica

KEY = b"k" * 32
INSTANCE, PROJECT = ResourceKind.INSTANCE, ResourceKind.PROJECT
MEMBER = Caller("me", "p", Role.MEMBER, float(2**40))
ADMIN = Caller("root", "admin", Role.CLOUD_ADMIN, float(2**40))
ASK = ListAsk(INSTANCE, 0, "")


async def listed(
    changelog: Changelog, feed: Feed, ask: ListAsk, caller: Caller = MEMBER
) -> ListPage:
    return await list_rows(changelog, feed, caller, ask, page_key=KEY)


async def pages(
    changelog: Changelog, feed: Feed, ask: ListAsk, caller: Caller = MEMBER
) -> AsyncIterator[ListPage]:
    while True:
        page = await listed(changelog, feed, ask, caller)
        yield page
        if not page.next_page_token:
            return
        ask = replace(ask, page_token=page.next_page_token)


async def refused(
    changelog: Changelog, feed: Feed, ask: ListAsk, caller: Caller = MEMBER
) -> CloudError:
    with pytest.raises(CloudError) as error:
        await listed(changelog, feed, ask, caller)
    return error.value


NAMES = st.sampled_from(["a", "b", "c", ""])
STEPS = st.lists(
    st.tuples(
        st.integers(0, 12), NAMES, st.sampled_from(["p", "p", "q"]), st.booleans(), st.booleans()
    ),
    max_size=40,
)
FILTERS = st.sampled_from(["", 'name = "a"', 'name != "a"', 'name IN ("b", "c")'])
ORDERS = st.sampled_from(["", "id desc", "create_time", "name", "name desc"])


def write(changelog: Changelog, steps: list[tuple[int, str, str, bool, bool]]) -> None:
    """Instances and operations come, change and go; their projects stay theirs."""
    for number, name, project, deleted, is_instance in steps:
        kind = INSTANCE if is_instance else ResourceKind.OPERATION
        row_id = f"{kind.name}-{project}-{number:02}"
        known = changelog.state_at(changelog.head).get(row_id)
        gone = known is None and any(row.id == row_id for row in changelog.log)
        if not gone:
            ends = deleted and known is not None
            changelog.put(row_id, {"name": name}, kind=kind, project_id=project, deleted=ends)


def names_of(rows: list[Row]) -> list[tuple[str, int]]:
    return [(row.id, row.revision) for row in rows]


@settings(max_examples=examples(80), deadline=None)
@given(STEPS, STEPS, FILTERS, ORDERS, st.integers(1, 7), st.integers(1, 30))
def test_pages_together_are_the_list_at_the_revision_of_the_first(
    before: list[tuple[int, str, str, bool, bool]],
    between: list[tuple[int, str, str, bool, bool]],
    text: str,
    order_by: str,
    size: int,
    examined_max: int,
) -> None:
    """Rows are written between any two pages; a page may end early, and may be empty."""

    async def read() -> list[ListPage]:
        changelog = Changelog()
        changelog.examined_max = examined_max
        write(changelog, before)
        async with replica(changelog) as feed:
            found = []
            first = changelog.state_at(changelog.head)
            ask = ListAsk(INSTANCE, size, "", text, order_by)
            async for page in pages(changelog, feed, ask):
                found.append(page)
                write(changelog, between[len(found) - 1 :: 3])
        expected = [
            row
            for row in first.values()
            if row.kind is INSTANCE and row.project_id == "p" and _meets(text, row)
        ]
        by_name = order_by.startswith("name")
        expected.sort(
            key=lambda row: (_name(row) if by_name else "", row.id), reverse="desc" in order_by
        )
        assert names_of([row for page in found for row in page.rows]) == names_of(expected)
        return found

    found = asyncio.run(read())
    assert len({page.revision for page in found}) == 1
    assert all(len(page.rows) <= size for page in found)


def _name(row: Row) -> str:
    return row.body.split(b'"name": "')[1].split(b'"')[0].decode()


def _meets(text: str, row: Row) -> bool:
    name = _name(row)
    return {
        "": True,
        'name = "a"': name == "a",
        'name != "a"': name != "a",
        'name IN ("b", "c")': name in ("b", "c"),
    }[text]


async def test_a_list_of_a_thousand_is_one_page_read_in_two(
    changelog: Changelog, feed: Feed
) -> None:
    for number in range(1001):
        changelog.put(f"i-{number:04}", {"name": "x"})
    page = await listed(changelog, feed, ListAsk(INSTANCE, 5000, ""))
    assert len(page.rows) == 1000
    assert changelog.pages_read == 2
    last = await listed(changelog, feed, ListAsk(INSTANCE, 5000, page.next_page_token))
    assert [row.id for row in last.rows] == ["i-1000"]
    assert last.next_page_token == ""


async def test_a_page_is_true_to_one_revision_although_it_is_read_in_parts(
    changelog: Changelog, feed: Feed
) -> None:
    for number in range(300):
        changelog.put(f"i-{number:03}")

    def write() -> None:
        changelog.put("i-250", {"name": "later"})
        changelog.put("i-251", deleted=True)

    changelog.after_page = write
    page = await listed(changelog, feed, ListAsk(INSTANCE, 300, ""))
    assert page.revision == 300
    assert [row.revision for row in page.rows] == list(range(1, 301))


@pytest.mark.parametrize("order_by", ["", "name", "name desc"])
async def test_a_page_of_large_rows_ends_early_and_loses_none(
    changelog: Changelog, feed: Feed, order_by: str
) -> None:
    for number in range(120):
        size = 90_000 if number % 7 == 0 else 20_000
        changelog.put(f"i-{number:04}", {"name": f"n{number % 5}", "fault": "x" * size})
    found: list[str] = []
    count = 0
    async for page in pages(changelog, feed, ListAsk(INSTANCE, 1000, "", order_by=order_by)):
        assert 0 < sum(len(row.body) for row in page.rows) <= PAGE_BYTES_MAX
        found += [row.id for row in page.rows]
        count += 1
    assert count >= 4
    assert sorted(found) == [f"i-{number:04}" for number in range(120)]


async def test_a_row_larger_than_a_page_is_a_page(changelog: Changelog, feed: Feed) -> None:
    for number in range(3):
        changelog.put(f"i-{number}", {"name": "x", "fault": "x" * (PAGE_BYTES_MAX + 1)})
    found = [len(page.rows) async for page in pages(changelog, feed, ASK)]
    assert found == [1, 1, 1]


async def test_a_page_ends_where_the_conductor_has_looked_at_enough(
    changelog: Changelog, feed: Feed
) -> None:
    changelog.examined_max = 10
    for number in range(35):
        changelog.put(f"i-{number:02}", {"name": "x" if number in (3, 34) else "y"})
    ask = ListAsk(INSTANCE, 0, "", 'name = "x"')
    found = [[row.id for row in page.rows] async for page in pages(changelog, feed, ask)]
    assert found == [["i-03"], [], [], ["i-34"]]


async def test_a_page_token_is_only_good_for_its_list(changelog: Changelog, feed: Feed) -> None:
    for number in range(3):
        changelog.put(f"i-{number}", {"name": "x"})
    ask = ListAsk(INSTANCE, 1, "", 'name = "x"', "name")
    page = await listed(changelog, feed, ask)
    ask = replace(ask, page_token=page.next_page_token)
    assert [r.id for r in (await listed(changelog, feed, ask)).rows] == ["i-1"]
    assert (await listed(changelog, feed, replace(ask, page_size=2))).revision == page.revision
    others = [
        (replace(ask, filter='name = "y"'), MEMBER),
        (replace(ask, order_by="id"), MEMBER),
        (replace(ask, order_by="name desc"), MEMBER),
        (replace(ask, kind=ResourceKind.IMAGE), MEMBER),
        (replace(ask, page_token=page.next_page_token[:-2] + "AA"), MEMBER),
        (replace(ask, page_token=page.resume_token), MEMBER),
        (ask, replace(MEMBER, project_id="q")),
        (replace(ask, all_projects=True), ADMIN),
    ]
    for other, caller in others:
        error = await refused(changelog, feed, other, caller)
        assert isinstance(error, Invalid)
        assert (error.reason, error.field) == ("PAGE_TOKEN_INVALID", "page_token"), other


async def test_a_page_of_a_revision_that_is_gone_is_refused_with_the_oldest(
    changelog: Changelog, feed: Feed
) -> None:
    for number in range(4):
        changelog.put(f"i-{number}")
    page = await listed(changelog, feed, ListAsk(INSTANCE, 1, ""))
    changelog.put("i-9")
    changelog.compacted = 5
    error = await refused(changelog, feed, ListAsk(INSTANCE, 1, page.next_page_token))
    assert isinstance(error, OutOfRange)
    assert (error.reason, error.metadata) == ("REVISION_COMPACTED", {"oldest_revision": "5"})


async def test_a_page_of_another_history_is_refused(changelog: Changelog, feed: Feed) -> None:
    for number in range(4):
        changelog.put(f"i-{number}")
    page = await listed(changelog, feed, ListAsk(INSTANCE, 1, ""))
    changelog.restore(3)
    await hear(feed, changelog)
    await asyncio.sleep(0.01)
    error = await refused(changelog, feed, ListAsk(INSTANCE, 1, page.next_page_token))
    assert error.reason == "REVISION_COMPACTED"


async def test_what_a_list_cannot_do_is_refused_by_its_field(
    changelog: Changelog, feed: Feed
) -> None:
    bad = await refused(changelog, feed, ListAsk(INSTANCE, 0, "", "nonsense"))
    assert (bad.reason, bad.field) == ("FILTER_INVALID", "filter")
    bad = await refused(changelog, feed, ListAsk(INSTANCE, 0, "", order_by="power"))
    assert (bad.reason, bad.field) == ("ORDER_INVALID", "order_by")
    bad = await refused(changelog, feed, ListAsk(INSTANCE, 0, "", 'host_id = "h"'))
    assert bad.reason == "FILTER_INVALID"
    bad = await refused(changelog, feed, ListAsk(INSTANCE, 0, "", all_projects=True))
    assert isinstance(bad, Denied)
    await listed(changelog, feed, ListAsk(INSTANCE, 0, "", 'host_id = "h"'), ADMIN)


async def test_projects_are_listed_to_admins_and_their_own_to_others(
    changelog: Changelog, feed: Feed
) -> None:
    for name in ("p", "q"):
        changelog.put(name, kind=PROJECT, project_id=name)
    assert [r.id for r in (await listed(changelog, feed, ListAsk(PROJECT, 0, ""))).rows] == ["p"]
    everyone = await listed(changelog, feed, ListAsk(PROJECT, 0, ""), ADMIN)
    assert [row.id for row in everyone.rows] == ["p", "q"]
    assert everyone.resume_token == ""
