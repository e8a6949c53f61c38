"""Rows as public messages: filled in place they say the same as composed field by field, and what
tenants must not see is not on the wire.
"""

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st
from stead.v1 import host_pb2, instance_pb2, operation_pb2, project_pb2, quota_pb2

from services.api.edges import public_messages
from services.api.logic.caller import Caller, Role
from services.api.logic.row import Ledger, Quota, Row
from services.domain.etag import etag_of
from services.domain.instance import (
    STANDINGS,
    Standing,
    State,
    Task,
    allowed_actions,
    blocked_actions,
)
from services.domain.kinds import ResourceKind
from services.domain.operation import OperationAction, OperationState, Phase, is_cancellable
from services.domain.resources import UNLIMITED, QuotaAmounts, Resources

TENANT = Caller("a", "p", Role.ADMIN, time.time() + 60)
ADMIN = Caller("root", "p", Role.CLOUD_ADMIN, time.time() + 60)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(0, 2**62)


def row_of(kind: ResourceKind, body: bytes, numbers: tuple[int, int, int] = (3, 77, 0)) -> Row:
    version, revision, epoch = numbers
    return Row(kind, "id-1", "p", version, revision, epoch, body)


def plain(row: Row, caller: Caller) -> instance_pb2.Instance:
    """The same, field by field."""
    message = instance_pb2.Instance.FromString(row.body)
    message.version, message.revision = row.version, row.revision
    message.etag = etag_of(row.id, row.version)
    message.epoch = row.epoch if caller.cloud_admin else 0
    if not caller.cloud_admin:
        message.host_id = ""
    standing = Standing(State(message.state), Task(message.task))
    for action in allowed_actions(standing):
        message.allowed_actions.append(action.value)  # type: ignore[arg-type]  # same numbers
    for blocked in blocked_actions(standing):
        message.blocked_actions.add(
            action=blocked.action.value,
            reason=blocked.why.reason,
            message=blocked.why.message,
        )
    return message


@given(
    standing=st.sampled_from(STANDINGS),
    texts=st.tuples(TEXTS, TEXTS, TEXTS),
    labels=st.dictionaries(TEXTS, TEXTS, max_size=3),
    numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    caller=st.sampled_from((TENANT, ADMIN)),
)
def test_an_instance_filled_in_place_is_the_plain_one(
    standing: Standing,
    texts: tuple[str, str, str],
    labels: dict[str, str],
    numbers: tuple[int, int, int],
    caller: Caller,
) -> None:
    name, host_id, fault = texts
    body = instance_pb2.Instance(
        id="id-1",
        name=name,
        state=standing.state.value,  # type: ignore[arg-type]  # same numbers
        task=standing.task.value,  # type: ignore[arg-type]  # same numbers
        host_id=host_id,
        labels=labels,
        fault=fault,
    ).SerializeToString()
    row = row_of(ResourceKind.INSTANCE, body, numbers)
    response = instance_pb2.ListInstancesResponse()
    public_messages.fill_instance(response.instances.add(), row, caller)
    sent = instance_pb2.ListInstancesResponse.FromString(response.SerializeToString())
    assert sent.instances[0] == plain(row, caller)


def test_where_an_instance_runs_is_not_on_a_tenants_wire() -> None:
    body = instance_pb2.Instance(
        state=instance_pb2.INSTANCE_STATE_ACTIVE,
        task=instance_pb2.INSTANCE_TASK_NONE,
        host_id="host-in-the-cellar",
        epoch=12,
    ).SerializeToString()
    row = row_of(ResourceKind.INSTANCE, body, (3, 77, 12))
    seen = {}
    for caller in (TENANT, ADMIN):
        response = instance_pb2.GetInstanceResponse()
        public_messages.fill_instance(response.instance, row, caller)
        seen[caller.role] = response.SerializeToString()
    assert b"cellar" in seen[Role.CLOUD_ADMIN]
    assert b"cellar" not in seen[Role.ADMIN]
    numbers = instance_pb2.GetInstanceResponse.FromString(seen[Role.ADMIN]).instance
    assert {field.name for field, _ in numbers.ListFields()}.isdisjoint({"host_id", "epoch"})


def test_an_operation_is_cancellable_while_it_runs_and_the_table_says_so() -> None:
    for action, state, phase in itertools.product(OperationAction, OperationState, Phase):
        body = operation_pb2.Operation(
            action=action.value,  # type: ignore[arg-type]  # same numbers
            state=state.value,  # type: ignore[arg-type]  # same numbers
            phase=phase.value,  # type: ignore[arg-type]  # same numbers
        ).SerializeToString()
        message = operation_pb2.Operation()
        public_messages.fill_operation(message, row_of(ResourceKind.OPERATION, body))
        runs = state is OperationState.RUNNING
        assert message.cancellable == (runs and is_cancellable(action, phase))
        assert (message.version, message.revision) == (3, 77)


def test_a_host_has_its_ledger_and_a_quota_its_limits() -> None:
    ledger = Ledger(Resources(8, 100, 10), Resources(1, 2, 3), 4)
    body = host_pb2.Host(id="h").SerializeToString()
    row = Row(ResourceKind.HOST, "h", "", 1, 2, 0, body, ledger=ledger)
    host = host_pb2.Host()
    public_messages.fill_host(host, row)
    assert (host.target.vcpus, host.used.disk_gib, host.claims) == (8, 3, 4)
    quota = Quota(UNLIMITED, QuotaAmounts(1, 2, 3, 4))
    body = project_pb2.Project(id="p", display_name="P").SerializeToString()
    row = Row(ResourceKind.PROJECT, "p", "p", 0, 0, 0, body, quota=quota)
    shown, project = quota_pb2.Quota(), project_pb2.Project()
    public_messages.fill_quota(shown, row)
    public_messages.fill_project(project, row)
    assert (shown.project_id, shown.limits.vcpus, shown.used.disk_gib) == ("p", -1, 4)
    assert (project.display_name, project.version, project.etag, shown.etag) == ("P", 0, "", "")
    assert etag_of("p", 1) != etag_of("p", 2)
    assert len(etag_of("p", 1)) == 16
