"""What an image file seems to be."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from services.cli.edges.image_file import guess_kind
from services.domain.kinds import ImageKind


def _tar(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    return path


def test_a_kernel_image_is_a_tar_of_three_files(tmp_path: Path) -> None:
    assert guess_kind(_tar(tmp_path / "a", "kernel", "initrd", "cmdline")) is ImageKind.KERNEL
    assert guess_kind(_tar(tmp_path / "b", "./kernel", "./initrd", "./cmdline")) is ImageKind.KERNEL
    assert guess_kind(_tar(tmp_path / "c", "kernel", "initrd")) is ImageKind.RAW


def test_qcow2_is_known_by_its_magic_and_all_else_is_raw(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(b"QFI\xfb" + bytes(100))
    (tmp_path / "r").write_bytes(bytes(4096))
    (tmp_path / "e").write_bytes(b"")
    assert guess_kind(tmp_path / "q") is ImageKind.QCOW2
    assert guess_kind(tmp_path / "r") is ImageKind.RAW
    assert guess_kind(tmp_path / "e") is ImageKind.RAW


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        guess_kind(tmp_path / "nothing")
