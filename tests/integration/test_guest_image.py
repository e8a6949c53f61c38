"""Builds the guest image from Debian's packages and boots it in QEMU (TCG).

Owns what guest/README.md promises: the archive's layout, the build's behaviour, and what the guest
says and does. Not how stead imports or starts an image.
"""

import codecs
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pycdlib
import pytest

REPOSITORY = Path(__file__).parents[2]
BUILD = REPOSITORY / "guest" / "build"
ARCHIVE = "stead-guest.kernel.tar"
HANGING_S = 60
INSTANCE_ID = "0b5c1c1e-9d4e-4f6a-8f43-5d1f0a6a2b77"
# Whatever a name may hold: quotes, what a shell would run, what JSON escapes, a second id.
NAME = 'a  "b", \\ \'c\' $(poweroff) `halt` %s & Zoë 😀 ", "uuid": "no'
NOBODY = 65534


def run_build(
    out: Path, *, build: Path = BUILD, env: dict[str, str] | None = None, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*prefix, str(build), str(out)]
    env = os.environ | (env or {})
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=HANGING_S, check=False
    )


def apt_settings(folder: Path, *lines: str) -> dict[str, str]:
    settings = folder / "apt.conf"
    machine_is_not_read = ('Dir::Etc::parts "/nonexistent";', 'Dir::Etc::main "/nonexistent";')
    own_cache = f'Dir::Cache "{folder}";'
    settings.write_text("\n".join([*machine_is_not_read, own_cache, *lines]))
    return {"APT_CONFIG": str(settings)}


def without_package_lists(folder: Path) -> dict[str, str]:
    return apt_settings(folder, f'Dir::State::lists "{folder}/none";')


@pytest.fixture(scope="module")
def archive() -> Path:
    out = Path(os.environ.get("STEAD_TEST_CACHE", REPOSITORY / "build")) / "guest"
    built = run_build(out)
    assert built.returncode == 0, built.stderr
    return out / ARCHIVE


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """Outside pytest's own folder, which another user cannot enter."""
    with tempfile.TemporaryDirectory(prefix="stead-guest-") as folder:
        yield Path(folder)


def write_config_drive(target: Path, meta_data: str, user_data: str) -> None:
    drive = pycdlib.PyCdlib()
    drive.new(interchange_level=3, vol_ident="config-2", rock_ridge="1.09")
    drive.add_directory("/OPENSTACK", rr_name="openstack")
    drive.add_directory("/OPENSTACK/LATEST", rr_name="latest")
    files = [("META", "meta_data.json", meta_data), ("USER", "user_data", user_data)]
    for short, name, text in files:
        content = text.encode()
        path = f"/OPENSTACK/LATEST/{short}.;1"
        drive.add_fp(io.BytesIO(content), len(content), path, rr_name=name)
    drive.write(str(target))
    drive.close()


class Guest:
    """A QEMU with the image in it: its console, and its monitor."""

    def __init__(self, archive: Path, folder: Path, *devices: str) -> None:
        qemu = shutil.which("qemu-system-x86_64")
        assert qemu, "install qemu-system-x86: this test boots the guest in it"
        with tarfile.open(archive) as parts:
            parts.extractall(folder, filter="data")
        self._monitor = folder / "qmp"
        # fmt: off
        command = [
            qemu, "-accel", "tcg", "-machine", "pc", "-cpu", "max", "-m", "128",
            "-nodefaults", "-display", "none", "-serial", "stdio",
            "-qmp", f"unix:{self._monitor},server=on,wait=off",
            "-kernel", str(folder / "kernel"), "-initrd", str(folder / "initrd"),
            "-append", (folder / "cmdline").read_text().strip(), *devices,
        ]
        # fmt: on
        self.qemu = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.console = ""
        self._unread = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begun = time.monotonic()

    def read_until(self, text: str) -> str:
        """What the console says from the last reading to `text`, lines ending in a line feed."""
        assert self.qemu.stdout
        deadline = time.monotonic() + HANGING_S
        while text not in self._unread:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.console}"
            if select.select([self.qemu.stdout], [], [], 1)[0]:
                chunk = os.read(self.qemu.stdout.fileno(), 65536)
                assert chunk, f"QEMU ended before {text!r}:\n{self.console}"
                said = self._decoder.decode(chunk).replace("\r", "")
                self.console += said
                self._unread += said
        before, _, self._unread = self._unread.partition(text)
        return before

    def wait_until_up(self) -> float:
        """Returns the seconds from QEMU's start to the root shell's prompt."""
        self.read_until("\nSTEAD-GUEST ")
        self.read_until("# ")
        return time.monotonic() - self._begun

    def type(self, line: str) -> None:
        assert self.qemu.stdin
        self.qemu.stdin.write(f"{line}\n".encode())
        self.qemu.stdin.flush()

    def run(self, command: str) -> str:
        """What a command at the shell prints. Both ends are marked, but not so in the echo."""
        self.type(f"echo beg''in; {command}; echo e''nd")
        self.read_until("\nbegin\n")
        printed = self.read_until("\nend\n")
        self.read_until("# ")
        return printed

    def press_power_button(self) -> None:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(HANGING_S)
            monitor.connect(str(self._monitor))
            answers = monitor.makefile()
            for command in ["qmp_capabilities", "system_powerdown"]:
                monitor.sendall(json.dumps({"execute": command}).encode())
                while "return" not in (answer := json.loads(answers.readline())):
                    assert "error" not in answer, answer

    def wait_until_off(self) -> None:
        self.read_until("reboot: Power down")
        assert self.qemu.wait(HANGING_S) == 0


@pytest.fixture
def guests() -> Iterator[list[Guest]]:
    started: list[Guest] = []
    yield started
    for guest in started:
        if guest.qemu.poll() is None:
            guest.qemu.kill()
        guest.qemu.communicate()


VIRTIO_DISK = "file={drive},format=raw,if=virtio,readonly=on"
IDE_CDROM = "file={drive},format=raw,media=cdrom,readonly=on"


@pytest.mark.parametrize(("drive_kind", "indent"), [(VIRTIO_DISK, None), (IDE_CDROM, 2)])
def test_the_guest_says_who_it_is_obeys_its_shell_and_ends_on_the_power_button(
    archive: Path, tmp_path: Path, guests: list[Guest], drive_kind: str, indent: int | None
) -> None:
    keys = {"first one": "ssh-ed25519 AAAAC3 a@b\n", "2": "ssh-rsa AAAAB3"}
    described = {
        "meta": {"name": "not this"},
        "name": NAME,
        "uuid": INSTANCE_ID,
        "hostname": "web-1",
        "public_keys": keys,
        "keys": [{"name": "first one", "data": "ssh-dss not-this"}],
    }
    drive = tmp_path / "config.iso"
    script = '#!/bin/sh\nid -un >/run/ran-as\nprintf "no line break"\n'
    write_config_drive(drive, json.dumps(described, indent=indent), script)

    guest = Guest(archive, tmp_path, "-drive", drive_kind.format(drive=drive))
    guests.append(guest)
    seconds = guest.wait_until_up()

    print(f"up after {seconds:.1f} s")
    assert f"STEAD-GUEST name={NAME} id={INSTANCE_ID}" in guest.console.split("\n")
    assert guest.run("id -un; hostname; cat /run/ran-as").split("\n") == ["root", "web-1", "root"]
    known = guest.run("stat -c %a /root/.ssh/authorized_keys; cat /root/.ssh/authorized_keys")
    assert known.split("\n") == ["600", "ssh-ed25519 AAAAC3 a@b", "ssh-rsa AAAAB3"]
    assert guest.run("pidof dropbear acpid | wc -w") == "2"

    guest.press_power_button()
    guest.wait_until_off()


def test_a_guest_without_a_config_drive_boots_and_respawns_its_shell_and_can_power_itself_off(
    archive: Path, tmp_path: Path, guests: list[Guest]
) -> None:
    guest = Guest(archive, tmp_path)
    guests.append(guest)
    guest.wait_until_up()
    assert "STEAD-GUEST name= id=" in guest.console.split("\n")
    first_shell = guest.run("echo $$")
    guest.type("exit")
    guest.read_until("# ")
    assert guest.run("echo $$") != first_shell
    guest.type("poweroff")
    guest.wait_until_off()


def test_the_archive_holds_exactly_kernel_initrd_and_cmdline(archive: Path) -> None:
    assert archive.read_bytes()[257:265] == b"ustar\x0000"
    with tarfile.open(archive) as parts:
        members = parts.getmembers()
        cmdline = parts.extractfile("cmdline")
        assert cmdline
        assert cmdline.read().decode().rstrip("\n").isprintable()
    assert [member.name for member in members] == ["kernel", "initrd", "cmdline"]
    assert all(member.isreg() and member.size for member in members)


def test_a_user_who_is_not_root_builds_the_same_bytes_and_a_second_build_has_nothing_to_do(
    archive: Path, empty_folder: Path
) -> None:
    sources = empty_folder / "guest"
    shutil.copytree(BUILD.parent, sources)
    out = empty_folder / "out"
    prefix: list[str] = []
    if os.getuid() == 0:
        os.chown(empty_folder, NOBODY, NOBODY)
        user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        prefix = ["setpriv", *user, "--no-new-privs"]
    for said in ["made: ", "up to date: "]:
        built = run_build(out, build=sources / "build", prefix=prefix)
        assert built.returncode == 0, built.stderr
        assert f"{said}{out / ARCHIVE}" in built.stderr
    assert (out / ARCHIVE).read_bytes() == archive.read_bytes()
    assert not (out / "work").exists()


def test_a_build_that_was_killed_half_way_starts_again(archive: Path, tmp_path: Path) -> None:
    killed = subprocess.Popen([BUILD, tmp_path], start_new_session=True)
    deadline = time.monotonic() + HANGING_S
    while not (tmp_path / "work" / "packages").exists() and time.monotonic() < deadline:
        assert killed.poll() is None, "the build ended before it could be killed"
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / ARCHIVE).exists()

    built = run_build(tmp_path)

    assert built.returncode == 0, built.stderr
    assert (tmp_path / ARCHIVE).read_bytes() == archive.read_bytes()


def test_a_mirror_that_is_not_there_is_said_with_the_packages_that_were_wanted(
    tmp_path: Path,
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody_listens = f'"http://127.0.0.1:{bound.getsockname()[1]}";'
        proxies = [f"Acquire::{scheme}::Proxy {nobody_listens}" for scheme in ("http", "https")]
        built = run_build(tmp_path / "out", env=apt_settings(tmp_path, *proxies))
    assert built.returncode == 1
    assert "could not be downloaded (see above): busybox-static dash dropbear-bin" in built.stderr
    assert not (tmp_path / "out" / ARCHIVE).exists()


def test_missing_package_lists_are_said_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    built = run_build(tmp_path / "out", env=without_package_lists(tmp_path))
    assert built.returncode == 1
    assert "apt-get update" in built.stderr
    assert "busybox-static" in built.stderr


def test_without_package_lists_an_image_of_these_sources_is_kept_and_one_of_others_is_not(
    archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(archive.parent, out)
    kept = run_build(out, env=without_package_lists(tmp_path))
    assert kept.returncode == 0, kept.stderr
    assert "keeping the image" in kept.stderr

    sources = tmp_path / "guest"
    shutil.copytree(BUILD.parent, sources)
    with (sources / "rootfs" / "etc" / "profile").open("a") as profile:
        profile.write("echo changed\n")
    refused = run_build(out, build=sources / "build", env=without_package_lists(tmp_path))
    assert refused.returncode == 1, refused.stderr
