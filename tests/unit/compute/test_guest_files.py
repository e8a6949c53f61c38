"""Files of the libvirt driver: folders of guests, kernel images, console logs, host names."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compute.edges.drivers.config_drive import hostname
from services.compute.edges.drivers.libvirt.console_log import read_log
from services.compute.edges.drivers.libvirt.guest_folder import (
    GuestFolder,
    guest_folders,
    remove_empty_folders,
    whole_file,
)
from services.compute.edges.drivers.libvirt.kernel_image import unpack_kernel
from services.compute.flows.ports import ConsoleLog, StepFailed
from services.compute.logic.guest import Identity
from services.domain.errors import Conflict

IDENTITY = Identity("0123456789ab", "019ab7f2-3c55-7d0e-9a51-0c3f7d5e2b11", 4)
PARTS = {"kernel": b"K" * 3000, "initrd": b"I" * 700, "cmdline": b"console=ttyS0\n"}


def archive(path: Path, parts: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


def test_a_kernel_image_is_unpacked_as_it_is(tmp_path: Path) -> None:
    boot = unpack_kernel(tmp_path, archive(tmp_path / "image", PARTS))
    assert boot.kernel.read_bytes() == PARTS["kernel"]
    assert boot.initrd.read_bytes() == PARTS["initrd"]
    assert boot.cmdline == "console=ttyS0"


def test_what_an_interrupted_unpacking_left_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    image = archive(tmp_path / "image", PARTS)
    left = unpack_kernel(tmp_path, image).kernel.parent
    left.rename(left.with_name("image.1.partial"))
    assert unpack_kernel(tmp_path, image).initrd.read_bytes() == PARTS["initrd"]


HOSTILE = {
    "no kernel": (dict(list(PARTS.items())[1:]), ()),
    "one more": (PARTS | {"extra": b"x"}, ()),
    "a path": ({**PARTS, "../kernel": b"x"}, ()),
    "absolute": ({"/kernel": b"x", "initrd": b"x", "cmdline": b"x"}, ()),
    "doubled": (PARTS, (tarfile.TarInfo("kernel"),)),
    "symlink": (
        {k: PARTS[k] for k in ("initrd", "cmdline")},
        (link("kernel", "/etc/shadow"),),
    ),
    "hard link": (
        {k: PARTS[k] for k in ("initrd", "cmdline")},
        (link("kernel", "initrd", tarfile.LNKTYPE),),
    ),
    "device": (
        {k: PARTS[k] for k in ("initrd", "cmdline")},
        (link("kernel", "", tarfile.CHRTYPE),),
    ),
    "empty kernel": (PARTS | {"kernel": b""}, ()),
    "long cmdline": (PARTS | {"cmdline": b"x" * 3000}, ()),
    "cmdline of two lines": (PARTS | {"cmdline": b"a\nb"}, ()),
    "cmdline that is not ASCII": (PARTS | {"cmdline": "ü".encode()}, ()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_kernel_image_is_refused(tmp_path: Path, name: str) -> None:
    parts, extra = HOSTILE[name]
    image = archive(tmp_path / "image", parts, *extra)
    with pytest.raises(StepFailed) as failed:
        unpack_kernel(tmp_path, image)
    assert failed.value.reason == "IMAGE_REJECTED"


@pytest.mark.parametrize("length", [0, 100, 512, 2000, 4096, 4700])
def test_a_truncated_kernel_image_is_refused(tmp_path: Path, length: int) -> None:
    whole = archive(tmp_path / "whole", PARTS).read_bytes()
    (tmp_path / "image").write_bytes(whole[:length])
    with pytest.raises(StepFailed):
        unpack_kernel(tmp_path, tmp_path / "image")


def test_a_folder_tells_whose_it_is_and_is_refused_to_another_claim(tmp_path: Path) -> None:
    folder = GuestFolder(tmp_path, IDENTITY.instance_id)
    assert folder.identity() is None
    folder.claim(IDENTITY)
    folder.claim(IDENTITY)
    assert folder.identity() == IDENTITY
    assert [f.identity() for f in guest_folders(tmp_path)] == [IDENTITY]
    with pytest.raises(Conflict) as refused:
        folder.claim(replace(IDENTITY, epoch=5))
    assert refused.value.reason == "GUEST_OF_OTHER_CLAIM"
    folder.erase()
    folder.erase()
    assert guest_folders(tmp_path) == []


def test_an_interrupted_erase_still_tells_whose_the_rest_is(tmp_path: Path) -> None:
    folder = GuestFolder(tmp_path, IDENTITY.instance_id)
    folder.claim(IDENTITY)
    (folder.path / "disk.qcow2").mkdir()
    with pytest.raises(OSError, match="directory"):
        folder.erase()
    assert folder.identity() == IDENTITY
    (folder.path / "disk.qcow2").rmdir()
    folder.erase()
    folder.path.mkdir()
    remove_empty_folders(tmp_path)
    assert guest_folders(tmp_path) == []


@pytest.mark.parametrize("note", [b"", b"{}", b"[]", b"\xff", b'{"cloud_id": 1}', b"null"])
def test_a_spoilt_note_is_nobodys(tmp_path: Path, note: bytes) -> None:
    folder = GuestFolder(tmp_path, IDENTITY.instance_id)
    folder.claim(IDENTITY)
    (folder.path / "identity.json").write_bytes(note)
    assert folder.identity() is None


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write_half() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert not path.exists()
    with whole_file(path) as partial:
        assert not partial.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_newest_part_of_a_log_knows_its_place(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_log(log, 10) == ConsoleLog(b"", 0)
    log.write_bytes(b"0123456789")
    assert read_log(log, 3) == ConsoleLog(b"789", 7)
    assert read_log(log, 100) == ConsoleLog(b"0123456789", 0)


@given(st.text(max_size=300))
def test_a_host_name_is_one_whatever_the_instance_is_called(name: str) -> None:
    made = hostname(name)
    assert 1 <= len(made) <= 63
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert made.strip("-") == made


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("web-1", "web-1"),
        ("Web One!", "web-one"),
        ("--", "instance"),
        ("Zoë", "zo"),
        ("", "instance"),
    ],
)
def test_a_host_name_resembles_the_instances_name(name: str, made: str) -> None:
    assert hostname(name) == made
