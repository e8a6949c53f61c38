"""Requests that break the rules of the contract: told all of them, and nothing happens."""

from typing import Any

import grpc
import pytest
from stead.v1 import flavor_pb2, image_pb2, instance_pb2, operation_pb2

from tests.integration.api.cloud import ApiCloud, new_id, refusal

BAD_REQUESTS: list[tuple[str, Any, list[str]]] = [
    (
        "CreateInstance",
        instance_pb2.CreateInstanceRequest(request_id="x", name="a\nb", flavor_id="f"),
        ["request_id", "name", "flavor_id", "image_id"],
    ),
    (
        "CreateInstance",
        instance_pb2.CreateInstanceRequest(
            request_id=new_id(),
            name="n",
            flavor_id=new_id(),
            image_id=new_id(),
            labels={"k\x00": "v"},
            ssh_public_keys=["a\nb"],
            user_data=b"x" * 8193,
        ),
        ['labels["k\\u0000"]', "ssh_public_keys[0]", "user_data"],
    ),
    ("GetInstance", instance_pb2.GetInstanceRequest(id="../x"), ["id"]),
    ("ListInstances", instance_pb2.ListInstancesRequest(page_size=-1), ["page_size"]),
    (
        "GetConsoleOutput",
        instance_pb2.GetConsoleOutputRequest(id=new_id(), max_bytes=1 << 21),
        ["max_bytes"],
    ),
    (
        "CreateFlavor",
        flavor_pb2.CreateFlavorRequest(request_id=new_id(), name="A"),
        ["name", "vcpus", "memory_mib", "disk_gib"],
    ),
    ("WaitOperation", operation_pb2.WaitOperationRequest(id=""), ["id"]),
    ("GetImage", image_pb2.GetImageRequest(), ["id"]),
]  # fmt: skip


@pytest.mark.parametrize(("method", "request_", "fields"), BAD_REQUESTS)
async def test_a_request_that_breaks_rules_is_told_all_of_them(
    cloud: ApiCloud, method: str, request_: Any, fields: list[str]
) -> None:
    before = len(cloud.conductor.log)
    refused = await refusal(getattr(cloud.admin(), method)(request_))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )
    assert list(dict.fromkeys(refused.fields)) == fields
    assert refused.bytes < 4096
    assert len(cloud.conductor.log) == before


async def test_a_refusal_stays_small_however_much_is_wrong(cloud: ApiCloud) -> None:
    request = instance_pb2.CreateInstanceRequest(
        name="\x00", labels={f"{n}\x01" + "k" * 300: "v\x02" for n in range(300)}
    )
    refused = await refusal(cloud.admin().CreateInstance(request))
    assert refused.reason == "INVALID_FIELD"
    assert 0 < refused.bytes < 4096


async def test_a_request_that_cannot_be_read_does_no_harm(cloud: ApiCloud) -> None:
    call = cloud.channel.unary_unary("/stead.v1.InstanceService/GetInstance")
    refused = await refusal(call(b"\xff\xff\xff", metadata=cloud.admin().metadata, timeout=60))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_UNREADABLE",
    )
    assert (await refusal(call(b"\xff\xff\xff", timeout=60))).reason == "TOKEN_MISSING"
