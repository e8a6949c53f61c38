"""The plan of a cloud's processes."""

from __future__ import annotations

from pathlib import Path

from services.cli.logic.home import Home
from services.cli.logic.options import Options
from services.cli.logic.units import Backing, Unit, host_ids, passed_on, services_of

SECRET = "postgresql://u:secret@/db"
HOME = Home(Path("/h"))


def _units(options: Options) -> dict[str, Unit]:
    backing = Backing(
        cloud_id="c1",
        postgres_url=SECRET,
        nats_url="nats://127.0.0.1:1",
        nats_credential_file="/h/run/nats.credential",
        libvirt_uri="qemu:///session",
        engines=frozenset({"postgres", "nats", "libvirtd"}),
        python="/venv/bin/python",
        machine="Box.example",
        api_listens=("127.0.0.1:8774", "127.0.0.1:4001", "127.0.0.1:4002")[: options.api_replicas],
    )
    return {unit.label: unit for unit in services_of(HOME, options, backing)}


def test_only_the_conductor_is_given_the_database_and_nothing_secret_stands_in_argv() -> None:
    units = _units(Options())
    given = {name for name, unit in units.items() if SECRET in unit.environment.values()}
    assert given == {"conductor"}
    assert not any("secret" in word for unit in units.values() for word in unit.argv)


def test_each_service_waits_for_what_it_needs() -> None:
    units = _units(Options())
    assert units["conductor"].needs == {"postgres", "nats"}
    assert units["api"].needs == units["scheduler"].needs == {"conductor"}
    assert units["compute"].needs == {"api", "libvirtd"}


def test_the_database_ends_after_the_conductor_and_the_conductor_after_its_callers() -> None:
    units = _units(Options())
    assert units["api"].ends_in == units["compute"].ends_in < units["conductor"].ends_in


def test_each_driver_is_a_replica_with_a_host_and_a_folder_of_its_own() -> None:
    units = _units(Options(drivers=("qemu", "fake"), fake_hosts=5))
    assert units["compute"].environment["STEAD_COMPUTE_HOST_ID"] == "box-example"
    assert units["compute-1"].environment["STEAD_COMPUTE_HOST_ID"] == "fake"
    assert units["compute-1"].environment["STEAD_COMPUTE_FAKE_HOSTS"] == "5"
    folders = {unit.environment.get("STEAD_COMPUTE_STATE_DIR") for unit in units.values()} - {None}
    assert folders == {"/h/compute/box-example", "/h/compute/fake"}


def test_host_ids_are_valid_whatever_the_machine_is_called() -> None:
    assert host_ids(("libvirt",), "") == {"libvirt": "host"}
    assert host_ids(("libvirt",), "-Ä_x-") == {"libvirt": "x"}
    assert host_ids(("qemu", "kvm"), "a") == {"qemu": "a", "kvm": "a-kvm"}


def test_a_service_gets_its_own_settings_of_the_caller_and_not_those_of_others() -> None:
    scheduler = _units(Options())["scheduler"]
    environment = {
        "PATH": "/bin",
        "STEAD_HOME": "/h",
        "STEAD_CONDUCTOR_POSTGRES_URL": SECRET,
        "STEAD_SCHEDULER_WEIGHT_CPU": "-1",
    }
    passed = passed_on(scheduler, environment)
    assert passed["STEAD_SCHEDULER_WEIGHT_CPU"] == "-1"
    assert passed["PATH"] == "/bin"
    assert SECRET not in passed.values()
    assert "STEAD_HOME" not in passed


def test_replicas_of_api_share_keys_and_images_and_each_has_its_own_doors() -> None:
    units = _units(Options(api_replicas=3))
    replicas = [units[name] for name in ("api", "api-1", "api-2")]
    assert [unit.endpoint for unit in replicas] == [
        "127.0.0.1:8774",
        "127.0.0.1:4001",
        "127.0.0.1:4002",
    ]
    assert [unit.environment["STEAD_API_LISTEN"] for unit in replicas] == [
        unit.endpoint for unit in replicas
    ]
    assert len({unit.admin_endpoint for unit in replicas}) == 3
    ingresses = [unit.environment["STEAD_API_INGRESS_LISTEN"] for unit in replicas]
    assert len(set(ingresses)) == 3
    assert units["compute"].environment["STEAD_COMPUTE_API"] == ",".join(ingresses)
    for shared in ("TOKEN_KEY_FILE", "PAGE_KEY_FILE", "IMAGE_DIR", "CONDUCTOR"):
        assert len({unit.environment[f"STEAD_API_{shared}"] for unit in replicas}) == 1


def test_one_replica_is_called_as_before() -> None:
    units = _units(Options())
    assert "api-1" not in units
    assert units["compute"].environment["STEAD_COMPUTE_API"] == "unix:/h/run/ingress.sock"
