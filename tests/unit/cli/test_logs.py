"""The logs that `stead up` keeps: bounded, also those of a process that never ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.edges.processes import cut_back

SMALL = 1000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "api.log"


def test_a_log_that_is_written_all_the_time_stays_within_its_bound(log: Path) -> None:
    """Its writer appends: what it writes next stands at the beginning of the new file."""
    with log.open("ab", buffering=0) as writer:
        for number in range(100):
            writer.write(b"%04d %s\n" % (number, b"x" * 94))
            cut_back(log, SMALL)
            assert log.stat().st_size <= SMALL
        kept = log.with_suffix(".log.1").read_bytes() + log.read_bytes()
        writer.write(b"last\n")
    assert kept.endswith(b"0099 " + b"x" * 94 + b"\n")
    assert log.read_bytes().endswith(b"last\n")
    assert not log.read_bytes().startswith(b"\0")
    assert log.with_suffix(".log.1").stat().st_size <= SMALL + 100


def test_where_no_copy_can_be_made_the_newer_words_are_kept(log: Path) -> None:
    """As on a disk that is full; here a folder is in its place."""
    log.write_bytes(b"x" * (SMALL + 1))
    log.with_suffix(".log.1").mkdir()
    cut_back(log, SMALL)
    assert log.stat().st_size == 0


def test_a_small_log_is_left_as_it_is_and_a_missing_one_is_none(log: Path) -> None:
    cut_back(log, SMALL)
    log.write_bytes(b"x" * SMALL)
    cut_back(log, SMALL)
    assert log.stat().st_size == SMALL
    assert not log.with_suffix(".log.1").exists()
