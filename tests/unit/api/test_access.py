"""Who may call what, also where every other guard fails: the conductor here hides nothing."""

import asyncio
import time
from dataclasses import replace

import pytest

from services.api.edges.authentication import GRACE_S, ROLES, Authentication, _ending
from services.api.edges.tokens import Tokens
from services.api.flows.follow_changes import Hub
from services.api.flows.get_row import get_row
from services.api.flows.list_rows import ListAsk, list_rows
from services.api.flows.wait_operation import WaitAsk, wait_operation
from services.api.flows.watch_rows import Changed, Existing, SnapshotDone, WatchAsk, watch_rows
from services.api.logic.caller import Caller, Role
from services.api.logic.row import Page, PageQuery, Row
from services.domain.errors import Denied, NotFound, Unauthenticated
from services.domain.kinds import ResourceKind
from tests.fakes.changelog import Changelog, fields_of, replica
from tests.unit.api.test_tokens import CLOUD, KEY, token
from tests.warp import run_warped

INSTANCE, OPERATION, IMAGE, HOST = (
    ResourceKind.INSTANCE,
    ResourceKind.OPERATION,
    ResourceKind.IMAGE,
    ResourceKind.HOST,
)
PAGE_KEY = b"k" * 32
END_S = float(2**40)
MINE = Caller("me", "mine", Role.MEMBER, END_S)
ADMIN = Caller("root", "admin", Role.CLOUD_ADMIN, END_S)


class OpenConductor(Changelog):
    """Answers everything that it has, whoever asks for whatever."""

    def __init__(self, *rows: Row) -> None:
        super().__init__()
        self.log.extend(rows)

    async def row_read(self, caller: Caller, kind: ResourceKind, row_id: str) -> Row | None:
        return next((row for row in self.log if row.id == row_id), None)

    async def page_read(self, caller: Caller, query: PageQuery) -> Page:
        found = tuple(row for row in self.log if row.kind is query.kind)
        return Page(found, len(self.log), more=False)


def row(
    project_id: str,
    revision: int,
    kind: ResourceKind = INSTANCE,
    *,
    public: bool = False,
    epoch: int = 0,
) -> Row:
    row_id = f"{project_id}-{kind.name}-{revision}"
    return Row(kind, row_id, project_id, 1, revision, epoch, b"", public=public)


def authentication() -> Authentication:
    return Authentication(Tokens(KEY.public_key(), CLOUD))


def metadata(**claims: object) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token(**claims)}")]


@pytest.mark.parametrize("method", ["/stead.v1.InstanceService/NewMethod", "/x/y", ""])
def test_a_method_that_does_not_stand_in_the_table_is_denied_to_everyone(method: str) -> None:
    with pytest.raises(Denied) as refused:
        authentication().admitted(method, metadata(cloud_admin=True, roles=["admin"]))
    assert refused.value.reason == "ROLE_MISSING"


@pytest.mark.parametrize("method", list(ROLES))
def test_a_cloud_admin_may_call_every_method_and_a_token_without_role_none(method: str) -> None:
    assert authentication().admitted(method, metadata(cloud_admin=True)).cloud_admin
    with pytest.raises(Denied):
        authentication().admitted(method, metadata(roles=[]))
    with pytest.raises(Unauthenticated):
        authentication().admitted(method, [])


@pytest.mark.parametrize("kind", [INSTANCE, OPERATION, IMAGE, HOST])
async def test_a_row_of_another_project_is_not_there(kind: ResourceKind) -> None:
    own, other, nobodys = row("mine", 1, kind), row("theirs", 2, kind), row("", 3, kind)
    conductor = OpenConductor(own, other, nobodys)
    assert await get_row(conductor, MINE, kind, own.id) is own
    for hidden in (other, nobodys):
        with pytest.raises(NotFound) as refused:
            await get_row(conductor, MINE, kind, hidden.id)
        with pytest.raises(NotFound) as never:
            await get_row(OpenConductor(), MINE, kind, hidden.id)
        assert (refused.value.reason, str(refused.value)) == (never.value.reason, str(never.value))
        assert await get_row(conductor, ADMIN, kind, hidden.id) is hidden


async def test_a_public_image_is_there_for_everyone_and_a_public_host_for_nobody() -> None:
    image, host = row("theirs", 1, IMAGE, public=True), row("theirs", 2, HOST, public=True)
    conductor = OpenConductor(image, host)
    assert await get_row(conductor, MINE, IMAGE, image.id) is image
    with pytest.raises(NotFound):
        await get_row(conductor, MINE, HOST, host.id)


@pytest.mark.parametrize("kind", [INSTANCE, OPERATION, IMAGE, HOST])
async def test_a_list_has_no_row_of_another_project(kind: ResourceKind) -> None:
    own, other = row("mine", 1, kind), row("theirs", 2, kind)
    conductor = OpenConductor(own, other)
    async with replica(conductor) as feed:
        page = await list_rows(conductor, feed, MINE, ListAsk(kind, 0, ""), page_key=PAGE_KEY)
        assert (page.rows, page.next_page_token) == ([own], "")
        ask = ListAsk(INSTANCE, 0, "", all_projects=True)
        with pytest.raises(Denied):
            await list_rows(conductor, feed, MINE, ask, page_key=PAGE_KEY)


@pytest.mark.parametrize("kind", [INSTANCE, OPERATION, HOST])
async def test_a_watch_shows_no_row_of_another_project(kind: ResourceKind) -> None:
    conductor = OpenConductor(row("mine", 1, kind), row("theirs", 2, kind))
    async with replica(conductor) as feed:
        events = watch_rows(conductor, feed, MINE, WatchAsk(kind), page_key=PAGE_KEY)
        (first,), (second,) = await anext(events), await anext(events)
        assert isinstance(first, Existing)
        assert isinstance(second, SnapshotDone)
        assert (first.row.project_id, second.count) == ("mine", 1)
        feed.hub.apply([row("theirs", 3, kind), row("mine", 4, kind), row("theirs", 5, kind)])
        (changed,) = await anext(events)
        assert isinstance(changed, Changed)
        assert changed.row.revision == 4


async def test_nobody_waits_for_an_operation_of_another_project() -> None:
    other = row("theirs", 1, OPERATION)
    hub = Hub(bytes_max=1 << 20, fields_of=fields_of)
    with pytest.raises(NotFound) as refused:
        await wait_operation(
            OpenConductor(other), hub, MINE, WaitAsk(other.id, 60.0), is_ended=lambda _: True
        )
    assert refused.value.reason == "OPERATION_NOT_FOUND"


def test_a_stream_that_hangs_in_a_write_ends_soon_after_its_token() -> None:
    """Its caller does not read, so nothing can be said, and nothing else would end it."""

    async def hangs(expires_at_s: float, beyond_s: float) -> str:
        caller = replace(MINE, expires_at_s=expires_at_s)
        try:
            with _ending(caller):
                await asyncio.sleep(beyond_s)
        except asyncio.CancelledError:
            return "ended"
        return "goes on"

    soon_s = time.time() + 1.0
    assert run_warped(hangs(soon_s, 60.0)) == "ended"
    assert run_warped(hangs(soon_s, GRACE_S / 2)) == "goes on"
    assert run_warped(hangs(float(2**60), 86_400.0)) == "goes on"
