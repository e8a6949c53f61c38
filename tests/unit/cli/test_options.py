"""What `stead up` was asked for."""

from __future__ import annotations

import pytest

from services.cli.logic.options import (
    Options,
    differences,
    listen_address,
    options_from,
    read,
    target_address,
    target_of,
    written,
)
from services.domain.errors import Invalid


def test_flags_that_were_not_given_leave_the_defaults() -> None:
    assert options_from({"drivers": None, "listen": None, "fake_hosts": None}) == Options()


def test_the_default_needs_a_libvirtd_of_its_own_and_the_fake_driver_none() -> None:
    assert Options().own_libvirtd
    assert not options_from({"drivers": ["fake"]}).own_libvirtd
    assert not options_from({"libvirt_uri": "qemu:///system"}).own_libvirtd
    assert options_from({"drivers": ["fake", "qemu"]}).own_libvirtd


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"drivers": ["vmware"]}, "--driver"),
        ({"drivers": ["fake", "fake"]}, "--driver"),
        ({"fake_hosts": 0}, "--fake-hosts"),
        ({"fake_hosts": 10_001}, "--fake-hosts"),
        ({"api_replicas": 0}, "--api-replicas"),
        ({"api_replicas": 17}, "--api-replicas"),
        ({"listen": "8774"}, "--listen"),
        ({"listen": "127.0.0.1:0"}, "--listen"),
        ({"listen": "127.0.0.1:65536"}, "--listen"),
        ({"listen": ":80"}, "--listen"),
    ],
)
def test_a_wrong_flag_is_refused_by_its_name(given: dict[str, object], flag: str) -> None:
    with pytest.raises(Invalid) as refused:
        options_from(given)
    assert refused.value.field == flag


def test_an_address_may_be_of_either_internet() -> None:
    assert listen_address("127.0.0.1:8774") == ("127.0.0.1", 8774)
    assert listen_address("[::1]:8774") == ("::1", 8774)


def test_options_survive_being_written_down() -> None:
    options = Options(drivers=("fake", "qemu"), postgres_url="postgresql://x", fake_hosts=7)
    assert read(written(options)) == options
    assert read({**written(options), "of_a_later_stead": 1}) == options


def test_only_flags_that_were_given_can_differ() -> None:
    running = Options(drivers=("fake",), listen="127.0.0.1:1")
    assert differences(running, {"drivers": None, "listen": None}) == []
    assert differences(running, {"drivers": ["fake"], "listen": "127.0.0.1:1"}) == []
    assert differences(running, {"drivers": ["qemu"], "listen": "127.0.0.1:2"}) == [
        "--driver",
        "--listen",
    ]


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:8774", "[::1]:8774", "unix:/a/b", "dns:///c:1", "127.0.0.1:1,127.0.0.1:2"],
)
def test_an_endpoint_is_an_address_or_a_target(endpoint: str) -> None:
    target_address(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    ["cloud", "http://cloud:8774", "https://cloud/", ":8774", "a:0", "127.0.0.1:1,a:2", "a:1,"],
)
def test_what_cannot_be_dialled_is_refused_by_the_variables_name(endpoint: str) -> None:
    with pytest.raises(Invalid) as refused:
        target_address(endpoint)
    assert refused.value.field == "STEAD_ENDPOINT"


def test_replicas_are_one_target_where_that_can_be_said() -> None:
    assert target_of(["127.0.0.1:1"]) == "127.0.0.1:1"
    assert target_of(["127.0.0.1:1", "127.0.0.1:2"]) == "ipv4:127.0.0.1:1,127.0.0.1:2"
    assert target_of(["[::1]:1", "[::1]:2"]) == "ipv6:[::1]:1,[::1]:2"
    assert target_of(["localhost:1", "127.0.0.1:2"]) == "localhost:1"


def test_a_state_of_before_there_were_replicas_is_one_replica() -> None:
    earlier = written(Options())
    del earlier["api_replicas"]
    assert read(earlier) == Options()
