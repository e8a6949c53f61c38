"""stead.v1.ProjectService and QuotaService: two views of the same rows.

A project that nobody has made known has a row of version 0: its limits are shown, itself only to
its own callers.
"""

from typing import Any

from stead.v1 import operation_pb2, project_pb2_grpc, quota_pb2, quota_pb2_grpc
from stead.v1 import project_pb2 as pb

from services.api.edges.desk import Desk
from services.api.edges.public_messages import fill_operation, fill_project, fill_quota
from services.api.flows.get_row import not_found
from services.api.flows.list_rows import ListAsk
from services.api.flows.ports import Accepted
from services.domain.kinds import ResourceKind


class ProjectServicer(project_pb2_grpc.ProjectServiceServicer):
    """The front desk for projects."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateProject(
        self, request: pb.CreateProjectRequest, context: Any
    ) -> pb.CreateProjectResponse:
        """Makes a project known."""
        response = pb.CreateProjectResponse()
        _fill(response.project, response.operation, await self._desk.accept(request))
        return response

    async def GetProject(
        self, request: pb.GetProjectRequest, context: Any
    ) -> pb.GetProjectResponse:
        """Shows one project."""
        own_id = self._desk.caller.project_id
        row = await self._desk.row(ResourceKind.PROJECT, request.id or own_id)
        if row.version == 0 and row.id != own_id:
            raise not_found(ResourceKind.PROJECT, row.id)
        response = pb.GetProjectResponse()
        fill_project(response.project, row)
        return response

    async def ListProjects(
        self, request: pb.ListProjectsRequest, context: Any
    ) -> pb.ListProjectsResponse:
        """Lists the projects that the caller may see."""
        page = await self._desk.page(
            ListAsk(
                ResourceKind.PROJECT,
                request.page_size,
                request.page_token,
                request.filter,
                request.order_by,
                self._desk.caller.cloud_admin,
            )
        )
        response = pb.ListProjectsResponse(
            next_page_token=page.next_page_token, revision=page.revision
        )
        for row in page.rows:
            fill_project(response.projects.add(), row)
        return response

    async def UpdateProject(
        self, request: pb.UpdateProjectRequest, context: Any
    ) -> pb.UpdateProjectResponse:
        """Changes what is said of a project."""
        response = pb.UpdateProjectResponse()
        _fill(response.project, response.operation, await self._desk.accept(request))
        return response

    async def DeleteProject(
        self, request: pb.DeleteProjectRequest, context: Any
    ) -> pb.DeleteProjectResponse:
        """Forgets a project."""
        response = pb.DeleteProjectResponse()
        _fill(response.project, response.operation, await self._desk.accept(request))
        return response


class QuotaServicer(quota_pb2_grpc.QuotaServiceServicer):
    """The front desk for limits."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetQuota(
        self, request: quota_pb2.GetQuotaRequest, context: Any
    ) -> quota_pb2.GetQuotaResponse:
        """Shows limits and use."""
        project_id = request.project_id or self._desk.caller.project_id
        response = quota_pb2.GetQuotaResponse()
        fill_quota(response.quota, await self._desk.row(ResourceKind.PROJECT, project_id))
        return response

    async def UpdateQuota(
        self, request: quota_pb2.UpdateQuotaRequest, context: Any
    ) -> quota_pb2.UpdateQuotaResponse:
        """Sets limits."""
        accepted = await self._desk.accept(request)
        response = quota_pb2.UpdateQuotaResponse()
        fill_quota(response.quota, accepted.resource)
        if accepted.operation is not None:
            fill_operation(response.operation, accepted.operation)
        return response


def _fill(project: pb.Project, operation: operation_pb2.Operation, accepted: Accepted) -> None:
    fill_project(project, accepted.resource)
    if accepted.operation is not None:
        fill_operation(operation, accepted.operation)
