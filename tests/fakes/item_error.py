"""A refusal of one item of a batch, as the conductor tells it."""

from collections.abc import Mapping

from stead.internal.v1 import conductor_pb2

from services.domain.errors import CloudError
from services.runtime.rpc import code_of


def item_error(
    error: CloudError, quota_violations: Mapping[str, str] | None = None
) -> conductor_pb2.ItemError:
    """The error in its form between the services."""
    return conductor_pb2.ItemError(
        code=code_of(error),
        reason=error.reason,
        message=error.message,
        metadata=error.metadata,
        field=error.field,
        quota_violations=quota_violations or {},
    )
