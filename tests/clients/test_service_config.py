"""Goal: the published service config tries again what may be tried again, by UNAVAILABLE alone, and
names methods that are there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

import proto

CONFIG = json.loads((Path(__file__).parents[2] / "docs" / "service-config.json").read_text())
WAIT = ("stead.v1.OperationService", "WaitOperation")


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """Every public method of the contract by service and name."""
    image = tmp_path_factory.mktemp("contract") / "stead.binpb"
    proto.write_image(image, files=proto.public())
    found = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    return {
        (f"{file.package}.{service.name}", method.name): method
        for file in found.file
        for service in file.service
        for method in service.method
    }


def named() -> list[tuple[str, str]]:
    """Every method that the config names, as often as it does."""
    return [
        (name["service"], name["method"])
        for entry in CONFIG["methodConfig"]
        for name in entry["name"]
    ]


def test_every_unary_method_is_named_once_and_nothing_else(
    methods: dict[tuple[str, str], Any],
) -> None:
    unary = [
        key
        for key, method in methods.items()
        if not (method.client_streaming or method.server_streaming)
    ]
    assert sorted(named()) == sorted(unary)


def test_only_unavailable_is_tried_again_and_only_what_may_happen_twice(
    methods: dict[tuple[str, str], Any],
) -> None:
    for entry in CONFIG["methodConfig"]:
        assert entry["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
        assert entry["retryPolicy"]["maxAttempts"] == 4
    unknown = descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN
    assert not [key for key in named() if methods[key].options.idempotency_level == unknown]
    assert CONFIG["retryThrottling"]["tokenRatio"] > 0


def test_every_call_has_an_end_but_the_one_that_waits() -> None:
    endless = [
        (name["service"], name["method"])
        for entry in CONFIG["methodConfig"]
        if "timeout" not in entry
        for name in entry["name"]
    ]
    assert endless == [WAIT]


def test_the_health_that_clients_ask_for_is_a_services(
    methods: dict[tuple[str, str], Any],
) -> None:
    assert CONFIG["healthCheckConfig"]["serviceName"] in {service for service, _ in methods}
