"""Accepts what is asked of projects: that they are known, their words, their limits, their end."""

from dataclasses import asdict, replace

from services.conductor.flows.accept import Acceptance, missing
from services.conductor.flows.answer import Accepted, Asked
from services.conductor.flows.refuse import chosen, require_etag
from services.conductor.logic.items import Item
from services.conductor.logic.operations import About
from services.conductor.logic.rows import ProjectRow
from services.domain.errors import AlreadyExists, Invalid
from services.domain.ids import is_project_id
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction
from services.domain.resources import QuotaAmounts

UPDATABLE = ("display_name",)
LIMITS = ("instances", "vcpus", "memory_mib", "disk_gib")


class ProjectAcceptor:
    """Turns wishes about projects into commits."""

    def __init__(self, acceptance: Acceptance, usual_limits: QuotaAmounts) -> None:
        self._acceptance = acceptance
        self._usual = usual_limits

    async def create(self, asked: Asked, project_id: str, display_name: str) -> Accepted:
        """Makes a project known. Raises AlreadyExists (NAME_TAKEN)."""

        async def decide() -> Item:
            row = await self._row(project_id)
            if row.version > 0:
                raise AlreadyExists(
                    "NAME_TAKEN",
                    f"there is a project {project_id}; choose another id",
                    field="id",
                    metadata={"name": project_id, "id": project_id},
                )
            made = replace(row, display_name=display_name)
            return self._item(asked, OperationAction.CREATE_PROJECT, made)

        return await self._acceptance.accept(asked, ResourceKind.PROJECT, decide)

    async def update(
        self, asked: Asked, project_id: str, display_name: str, *, mask: tuple[str, ...], etag: str
    ) -> Accepted:
        """Other words for it. Raises NotFound (PROJECT_NOT_FOUND), Conflict (ETAG_MISMATCH),
        Invalid (INVALID_FIELD).
        """

        async def decide() -> Item:
            chosen(mask, UPDATABLE)
            row = await self._known(project_id)
            require_etag(row.id, row.version, etag)
            changed = replace(row, display_name=display_name)
            return self._item(asked, OperationAction.UPDATE_PROJECT, changed)

        return await self._acceptance.accept(asked, ResourceKind.PROJECT, decide)

    async def delete(self, asked: Asked, project_id: str) -> Accepted:
        """Forgets it. Raises NotFound (PROJECT_NOT_FOUND), WrongState (PROJECT_NOT_EMPTY)."""

        async def decide() -> Item:
            gone = replace(await self._known(project_id), deleted=True)
            return self._item(asked, OperationAction.DELETE_PROJECT, gone)

        return await self._acceptance.accept(asked, ResourceKind.PROJECT, decide)

    async def limit(
        self,
        asked: Asked,
        project_id: str,
        limits: QuotaAmounts,
        *,
        mask: tuple[str, ...],
        etag: str,
    ) -> Accepted:
        """Sets the limits that the mask names; the others stay as they hold now. A project that is
        not known becomes so. Raises Conflict (ETAG_MISMATCH), Invalid (INVALID_FIELD).
        """

        async def decide() -> Item:
            fields = chosen(mask, LIMITS)
            asked_for = asdict(limits)
            if any(asked_for[field] < -1 for field in fields):
                raise Invalid("INVALID_FIELD", "a limit is -1 (none) or more", field="limits")
            row = await self._row(project_id)
            require_etag(row.id, row.version, etag)
            others = asdict(row.limits or self._usual)
            new = QuotaAmounts(**(others | {field: asked_for[field] for field in fields}))
            return self._item(asked, OperationAction.UPDATE_QUOTA, replace(row, limits=new))

        return await self._acceptance.accept(asked, ResourceKind.PROJECT, decide)

    async def _row(self, project_id: str) -> ProjectRow:
        """The project as it is; one that nobody has made known is of version 0. Raises Invalid
        (INVALID_FIELD) for what cannot name one.
        """
        if not is_project_id(project_id):
            raise Invalid(
                "INVALID_FIELD", "a project id is 1 to 63 of a-z, 0-9, dash and underscore"
            )
        found = (await self._acceptance.store.projects_read([project_id])).get(project_id)
        now_s = self._acceptance.clock.now_s()
        if found is None:
            return ProjectRow(project_id, "", now_s)
        return found if found.version else replace(found, created_at_s=now_s)

    async def _known(self, project_id: str) -> ProjectRow:
        row = await self._row(project_id)
        if not row.version:
            raise missing(ResourceKind.PROJECT, project_id)
        return row

    def _item(self, asked: Asked, action: OperationAction, row: ProjectRow) -> Item:
        about = About(asked.caller.project_id, row.id)
        operation = self._acceptance.done(asked, action, about)
        return Item(request=asked.key(row.id, operation.id), project=row, operations=(operation,))
