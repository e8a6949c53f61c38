"""Audits at the front desk: for cloud admins, streamed to a last word, in pages."""

from __future__ import annotations

import grpc
from stead.v1 import audit_pb2

from tests.integration.api.cloud import ApiCloud, refusal


async def test_an_audit_ends_with_how_much_was_compared(cloud: ApiCloud) -> None:
    """Also when nothing differs."""
    admin = cloud.user("admin", "admin", cloud_admin=True)
    told = [event async for event in admin.Audit(audit_pb2.AuditRequest())]
    assert [event.WhichOneof("event") for event in told] == ["done"]
    assert (told[0].done.hosts, told[0].done.differences) == (1, 0)


async def test_a_page_token_of_another_list_is_refused(cloud: ApiCloud) -> None:
    """PAGE_TOKEN_INVALID."""
    admin = cloud.user("admin", "admin", cloud_admin=True)
    request = audit_pb2.ListUnknownGuestsRequest(page_token="AAAA")
    refused = await refusal(admin.ListUnknownGuests(request))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "PAGE_TOKEN_INVALID",
    )
    empty = await admin.ListUnknownGuests(audit_pb2.ListUnknownGuestsRequest())
    assert (list(empty.guests), empty.next_page_token) == ([], "")


async def test_no_tenant_may_audit(cloud: ApiCloud) -> None:
    """Hosts and epochs are no tenant's to see."""
    refused = await refusal(
        cloud.user("p", "admin").ListUnknownGuests(audit_pb2.ListUnknownGuestsRequest())
    )
    assert refused.reason == "ROLE_MISSING"
