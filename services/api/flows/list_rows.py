"""Lists the rows of one noun in pages, all true to the revision of the first.

Owns whose rows a list is about, how large a page gets, and what its tokens are bound to. A page
ends early where its rows are large or where the conductor has looked at many.
"""

from dataclasses import dataclass, replace

from services.api.flows.follow_feed import FEED_S, Feed
from services.api.flows.ports import Conductor
from services.api.flows.read_log import compacted
from services.api.logic.caller import Caller
from services.api.logic.filter import BadFilter, parse, text_of
from services.api.logic.list_order import BadOrder, order_from
from services.api.logic.row import Page, PageQuery, Row, is_visible
from services.api.logic.seal import Opened, Place, binding, seal, unseal
from services.domain.condition import Condition
from services.domain.errors import Denied, Invalid
from services.domain.kinds import ResourceKind

PAGE_ROWS = 100
PAGE_ROWS_MAX = 1000
PAGE_BYTES_MAX = 1024 * 1024
# The largest instance that the contract admits has about 81 KiB: so many are read unseen.
READ_ROWS_MAX = 100

WATCHED = frozenset({ResourceKind.INSTANCE, ResourceKind.OPERATION, ResourceKind.HOST})
_OF_A_PROJECT = frozenset(
    {
        ResourceKind.INSTANCE,
        ResourceKind.OPERATION,
        ResourceKind.IMAGE,
        ResourceKind.KEY_PAIR,
        ResourceKind.PROJECT,
    }
)


@dataclass(frozen=True, slots=True)
class ListAsk:
    """What a list call asks for; `page_size` 0 means the usual one."""

    kind: ResourceKind
    page_size: int
    page_token: str
    filter: str = ""
    order_by: str = ""
    all_projects: bool = False


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page. `next_page_token` is empty on the last, `resume_token` where nothing watches."""

    rows: list[Row]
    next_page_token: str
    revision: int
    resume_token: str


async def list_rows(
    conductor: Conductor, feed: Feed, caller: Caller, ask: ListAsk, *, page_key: bytes
) -> ListPage:
    """One page of the rows that the caller may see.

    Raises Denied (ROLE_MISSING), Invalid (FILTER_INVALID, ORDER_INVALID, PAGE_TOKEN_INVALID),
    OutOfRange (REVISION_COMPACTED), Unavailable (PEER_UNREACHABLE).
    """
    project_id = project_of(caller, ask.kind, all_projects=ask.all_projects)
    conditions = conditions_of(caller, ask.kind, ask.filter)
    order = order_from(ask.order_by, ask.kind)
    if isinstance(order, BadOrder):
        raise Invalid("ORDER_INVALID", order.why, field="order_by")
    await feed.catch_up(0, FEED_S)
    # Taken before the rows are read: the token can then be older than they are, never newer.
    history_id = feed.hub.history_id
    filter_text = text_of(conditions, ask.kind)
    bound_to = binding(
        "page", ask.kind.name, project_id, filter_text, order.by.name, str(order.descending)
    )
    size = min(ask.page_size or PAGE_ROWS, PAGE_ROWS_MAX)
    query = PageQuery(ask.kind, project_id, size, conditions, order.by, order.descending)
    if ask.page_token:
        query = _continued(query, unseal(page_key, ask.page_token, bound_to), feed)
    rows, last = await _gather(conductor, caller, query)
    following = Place(history_id, last.revision, last.last_key, last.last_id)
    watched = watch_binding(caller, ask.kind, project_id, filter_text)
    return ListPage(
        rows,
        seal(page_key, following, bound_to) if last.more else "",
        last.revision,
        seal(page_key, Place(history_id, last.revision), watched) if ask.kind in WATCHED else "",
    )


def project_of(caller: Caller, kind: ResourceKind, *, all_projects: bool) -> str:
    """The project whose rows are meant, empty for all. Raises Denied (ROLE_MISSING)."""
    if kind is ResourceKind.PROJECT and caller.cloud_admin:
        return ""
    if kind not in _OF_A_PROJECT:
        return ""
    if not all_projects:
        return caller.project_id
    if not caller.cloud_admin:
        raise Denied(
            "ROLE_MISSING", "only cloud admins reach every project; leave out all_projects"
        )
    return ""


def conditions_of(caller: Caller, kind: ResourceKind, text: str) -> tuple[Condition, ...]:
    """What a filter says. Raises Invalid (FILTER_INVALID)."""
    conditions = parse(text, kind, cloud_admin=caller.cloud_admin)
    if isinstance(conditions, BadFilter):
        raise Invalid("FILTER_INVALID", conditions.why, field="filter")
    return conditions


def watch_binding(caller: Caller, kind: ResourceKind, project_id: str, filter_text: str) -> str:
    """What a resume token is bound to."""
    return binding("watch", kind.name, project_id, filter_text, caller.subject)


def _continued(query: PageQuery, token: Opened | None, feed: Feed) -> PageQuery:
    if token is None:
        raise Invalid(
            "PAGE_TOKEN_INVALID",
            "this page token is not of this list; leave it empty to begin anew",
            field="page_token",
        )
    if not token.is_of(feed.hub.history_id):
        raise compacted(feed.oldest_revision)
    return replace(
        query,
        after_key=token.last_key,
        after_id=token.last_id,
        pinned_revision=token.revision,
    )


async def _gather(conductor: Conductor, caller: Caller, query: PageQuery) -> tuple[list[Row], Page]:
    """The rows of one page, and the last part that it was read in: where the next one goes on."""
    rows: list[Row] = []
    count = size_bytes = 0
    asked = replace(query, limit=min(query.limit, READ_ROWS_MAX))
    while True:
        part = await conductor.page_read(caller, asked)
        asked = replace(asked, pinned_revision=part.revision)
        fitting = _fitting(part, PAGE_BYTES_MAX - size_bytes)
        is_full = fitting < len(part.rows)
        if is_full and fitting == 0 and count:
            return rows, replace(part, more=True, last_key=asked.after_key, last_id=asked.after_id)
        if is_full:
            # Read again and shorter: only the conductor knows where a page goes on after a row.
            part = await conductor.page_read(caller, replace(asked, limit=max(1, fitting)))
        rows += [row for row in part.rows if not row.deleted and is_visible(row, caller)]
        count += len(part.rows)
        size_bytes += sum(len(row.body) for row in part.rows)
        if is_full or not part.more or count >= query.limit or len(part.rows) < asked.limit:
            return rows, part
        fit = (PAGE_BYTES_MAX - size_bytes) * count // max(1, size_bytes)
        limit = max(1, min(query.limit - count, fit))
        asked = replace(asked, limit=limit, after_key=part.last_key, after_id=part.last_id)


def _fitting(part: Page, bytes_left: int) -> int:
    for place, row in enumerate(part.rows):
        bytes_left -= len(row.body)
        if bytes_left < 0:
            return place
    return len(part.rows)
