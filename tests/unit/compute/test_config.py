"""Compute's settings come from its environment, and say which hosts it is."""

import pytest
from pydantic import ValidationError

from services.compute.config import Settings
from services.domain.resources import Overcommit, Resources

NEEDED = {
    "STEAD_CLOUD_ID": "0123456789ab",
    "STEAD_NATS_URL": "nats://127.0.0.1:4222",
    "STEAD_COMPUTE_API": "unix:/run/ingress.sock",
    "STEAD_COMPUTE_DRIVER": "fake",
    "STEAD_COMPUTE_HOST_ID": "h",
    "STEAD_COMPUTE_STATE_DIR": "/var/lib/stead",
}


@pytest.fixture
def settings(monkeypatch):
    def read(**more: str) -> Settings:
        for name, value in {**NEEDED, **more}.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return read


def test_one_host_is_called_as_it_is_told(settings):
    assert settings().host_ids() == ["h"]
    assert settings().reconnect_s_max() == 2.0


def test_many_fake_hosts_are_numbered_and_dial_more_slowly(settings):
    fleet = settings(STEAD_COMPUTE_FAKE_HOSTS="2000")
    assert fleet.host_ids()[:2] == ["h-0000", "h-0001"]
    assert len(fleet.host_ids()) == 2000
    assert fleet.reconnect_s_max() == 10.0


def test_only_fake_hosts_can_be_many(settings):
    assert settings(STEAD_COMPUTE_DRIVER="qemu", STEAD_COMPUTE_FAKE_HOSTS="5").host_ids() == ["h"]


def test_reserved_amounts_and_ratios_are_read(settings):
    read = settings(
        STEAD_COMPUTE_RESERVED_VCPUS="1",
        STEAD_COMPUTE_RESERVED_MEMORY_MIB="512",
        STEAD_COMPUTE_OVERCOMMIT_VCPUS_PERMILLE="8000",
    )
    assert read.reserved() == Resources(1, 512, 0)
    assert read.overcommit() == Overcommit(8000, 1000, 1000)


def test_replicas_of_api_are_separated_by_commas(settings):
    assert settings().api_targets() == ["unix:/run/ingress.sock"]
    two = settings(STEAD_COMPUTE_API="unix:/run/0.sock,127.0.0.1:9000")
    assert two.api_targets() == ["unix:/run/0.sock", "127.0.0.1:9000"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEAD_COMPUTE_API", ""),
        ("STEAD_COMPUTE_API", "a:1,,b:1"),
        ("STEAD_COMPUTE_API", "a:1, b:1"),
        ("STEAD_COMPUTE_DRIVER", "vmware"),
        ("STEAD_COMPUTE_HOST_ID", "Not A Host"),
        ("STEAD_COMPUTE_FAKE_HOSTS", "0"),
        ("STEAD_CLOUD_ID", "x"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, name, value):
    with pytest.raises(ValidationError):
        settings(**{name: value})
