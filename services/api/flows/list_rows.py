"""Lists the rows of one noun in pages, oldest first.

Owns whose rows a list is about and how large a page gets. A page ends early where its rows are
large.
"""

from dataclasses import dataclass

from services.api.flows.ports import Conductor
from services.api.logic.caller import Caller
from services.api.logic.filter import BadFilter, parse
from services.api.logic.page_token import seal, unseal
from services.api.logic.row import PageQuery, Row, is_visible
from services.domain.errors import Broken, Denied, Invalid
from services.domain.kinds import ResourceKind

PAGE_ROWS = 100
PAGE_ROWS_MAX = 1000
PAGE_BYTES_MAX = 1024 * 1024
# The largest instance that the contract admits has about 81 KiB: so many fit one message of 8 MiB.
READ_ROWS_MAX = 90

_OF_A_PROJECT = frozenset({ResourceKind.INSTANCE, ResourceKind.OPERATION, ResourceKind.IMAGE})


@dataclass(frozen=True, slots=True)
class ListAsk:
    """What a list call asks for; `page_size` 0 means the usual one."""

    kind: ResourceKind
    page_size: int
    page_token: str
    filter: str = ""
    all_projects: bool = False


async def list_rows(
    conductor: Conductor, caller: Caller, ask: ListAsk, *, page_key: bytes
) -> tuple[list[Row], str]:
    """One page and the token of the next, empty on the last.

    Raises Denied (ROLE_MISSING), Invalid (FILTER_INVALID, PAGE_TOKEN_INVALID).
    """
    project_id = project_of(caller, ask.kind, all_projects=ask.all_projects)
    where = parse(ask.filter, ask.kind)
    if isinstance(where, BadFilter):
        raise Invalid("FILTER_INVALID", where.why, field="filter")
    binding = f"{ask.kind.name}\n{project_id}\n{ask.filter}"
    after_id = unseal(page_key, ask.page_token, binding)
    if after_id is None:
        raise Invalid(
            "PAGE_TOKEN_INVALID",
            "this page token is not of this list; leave it empty to begin anew",
            field="page_token",
        )
    size = min(ask.page_size or PAGE_ROWS, PAGE_ROWS_MAX)
    query = PageQuery(ask.kind, project_id, after_id, size, where)
    rows, more = await _gather(conductor, caller, query)
    return rows, seal(page_key, rows[-1].id, binding) if more and rows else ""


def project_of(caller: Caller, kind: ResourceKind, *, all_projects: bool) -> str:
    """The project whose rows are meant, empty for all. Raises Denied (ROLE_MISSING)."""
    if kind not in _OF_A_PROJECT:
        return ""
    if not all_projects:
        return caller.project_id
    if not caller.cloud_admin:
        raise Denied(
            "ROLE_MISSING", "only cloud admins reach every project; leave out all_projects"
        )
    return ""


async def _gather(conductor: Conductor, caller: Caller, query: PageQuery) -> tuple[list[Row], bool]:
    rows: list[Row] = []
    total_bytes = 0
    after_id = query.after_id
    while True:
        limit = min(query.limit - len(rows), READ_ROWS_MAX)
        page = await conductor.page_read(
            caller, PageQuery(query.kind, query.project_id, after_id, limit, query.where)
        )
        for place, row in enumerate(page.rows):
            if row.deleted or not is_visible(row, caller):
                continue
            rows.append(row)
            total_bytes += len(row.body)
            if total_bytes >= PAGE_BYTES_MAX:
                return rows, page.more or place + 1 < len(page.rows)
        if not page.more or len(rows) >= query.limit:
            return rows, page.more
        if not page.rows:
            raise Broken("PAGE_EMPTY", "a page that others follow was empty")
        after_id = page.rows[-1].id
