"""The numbers of the domain's enums are those of the contract, value by value."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from stead.internal.v1 import compute_pb2, conductor_pb2, resource_pb2
from stead.v1 import host_pb2, image_pb2, instance_pb2, operation_pb2

from services.domain.instance import Action, Power, State, Task
from services.domain.kinds import (
    Architecture,
    HostState,
    Hypervisor,
    ImageKind,
    ListOrder,
    ResourceKind,
)
from services.domain.observation import ObservationOutcome
from services.domain.operation import OperationAction, OperationState, Phase

PAIRS: list[tuple[type[IntEnum], Any, str]] = [
    (State, instance_pb2.InstanceState, "INSTANCE_STATE_"),
    (Task, instance_pb2.InstanceTask, "INSTANCE_TASK_"),
    (Power, instance_pb2.InstancePower, "INSTANCE_POWER_"),
    (Action, instance_pb2.InstanceAction, "INSTANCE_ACTION_"),
    (OperationAction, operation_pb2.OperationAction, "OPERATION_ACTION_"),
    (OperationState, operation_pb2.OperationState, "OPERATION_STATE_"),
    (Phase, operation_pb2.OperationPhase, "OPERATION_PHASE_"),
    (ImageKind, image_pb2.ImageKind, "IMAGE_KIND_"),
    (Architecture, image_pb2.Architecture, "ARCHITECTURE_"),
    (HostState, host_pb2.HostState, "HOST_STATE_"),
    (Hypervisor, host_pb2.HypervisorKind, "HYPERVISOR_KIND_"),
    (ListOrder, conductor_pb2.ListOrder, "LIST_ORDER_"),
    (ResourceKind, resource_pb2.ResourceKind, "RESOURCE_KIND_"),
    (ObservationOutcome, compute_pb2.ObservationOutcome, "OBSERVATION_OUTCOME_"),
]


@pytest.mark.parametrize(("ours", "wire", "prefix"), PAIRS, ids=[p[0].__name__ for p in PAIRS])
def test_the_domain_and_the_contract_count_alike(
    ours: type[IntEnum], wire: Any, prefix: str
) -> None:
    """Edges convert by number alone, so names and numbers must agree on both sides."""
    expected = {name.removeprefix(prefix): number for name, number in wire.items() if number}
    assert {member.name: member.value for member in ours} == expected
