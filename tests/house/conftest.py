"""Owns copies of the checkout that house tests may break, and the run of one check in them."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PARTS = ["services", "proto", "generated", "scripts", "docs", "pyproject.toml", "buf.yaml"]


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """What the checks judge, in a folder of its own."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        elif source.exists():
            shutil.copyfile(source, tmp_path / name)
    return tmp_path


@pytest.fixture
def check() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs named checks of a checkout as `make check` does."""

    def run(top: pathlib.Path, *names: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "scripts/check.py", *names],
            cwd=top,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return run


@pytest.fixture
def tracked() -> list[pathlib.Path]:
    """Every file that is, or would be, committed."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]
