"""The fake driver's journal: whatever happened, and wherever it was cut, it tells of some moment of
what happened.
"""

import asyncio
import json
import os
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compute.edges.drivers import fake_journal
from services.compute.edges.drivers.fake import Faults, open_fleet
from services.compute.edges.drivers.fake_guest import FakeGuest
from services.compute.edges.drivers.fake_journal import JOURNAL, Journal, read_guests
from services.compute.logic.guest import Claim
from services.domain.resources import Resources
from tests.unit.compute.fake_guests import GUEST

Guests = dict[Claim, FakeGuest]
Change = FakeGuest | Claim

texts = st.text(st.characters(max_codepoint=255), max_size=20)
guests = st.builds(
    FakeGuest,
    instance_id=st.sampled_from(["a", "b", "c"]),
    epoch=st.integers(1, 2),
    power=st.integers(0, 3),
    console=texts,
    typed=texts,
    asked=st.none() | st.tuples(st.integers(0, 9), texts, st.floats(0, 1e9)),
)
histories = st.lists(guests | guests.map(lambda guest: guest.claim), max_size=12)


def apply(journal: Journal, change: Change) -> None:
    if isinstance(change, FakeGuest):
        journal.put(change)
    else:
        journal.remove(change)


def moments(history: list[Change]) -> list[Guests]:
    """What was there before the history and after each change of it."""
    found: list[Guests] = [{}]
    for change in history:
        now = dict(found[-1])
        if isinstance(change, FakeGuest):
            now[change.claim] = change
        else:
            now.pop(change, None)
        found.append(now)
    return found


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path)
    yield made
    made.close()


@given(histories, st.data())
def test_wherever_it_is_cut_it_tells_of_a_moment_of_what_happened(
    history: list[Change], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal(folder)
        sizes = [0]
        for change in history:
            apply(journal, change)
            sizes.append((folder / JOURNAL).stat().st_size)
        journal.close()
        assert journal.guests == read_guests(folder) == moments(history)[-1]
        cut = data.draw(st.integers(0, sizes[-1]), label="cut")
        os.truncate(folder / JOURNAL, cut)
        whole = max(n for n, size in enumerate(sizes) if size <= cut)
        assert read_guests(folder) == moments(history)[whole]
        again = Journal(folder)
        again.put(FakeGuest(**{**asdict(GUEST), "instance_id": "after"}))
        again.close()
        assert read_guests(folder).keys() - {("after", 1)} == moments(history)[whole].keys()


@given(histories)
def test_opened_again_and_again_it_tells_the_same(history: list[Change]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for change in history:
            journal = Journal(folder)
            apply(journal, change)
            journal.close()
        assert read_guests(folder) == moments(history)[-1]
        for path in folder.iterdir():
            assert path.name == JOURNAL


def test_it_does_not_grow_far_beyond_what_lives(tmp_path: Path, journal: Journal) -> None:
    said = 0
    for number in range(200):
        journal.put(replace(GUEST, applied_generation=number, console="x" * 40_000))
        said += 40_000
    assert said > 4 * fake_journal.SMALL_BYTES
    assert (tmp_path / JOURNAL).stat().st_size < 2 * fake_journal.SMALL_BYTES
    assert read_guests(tmp_path) == journal.guests
    assert journal.guests[GUEST.claim].applied_generation == 199


def test_a_large_one_is_written_anew_at_the_start(tmp_path: Path, journal: Journal) -> None:
    journal.put(replace(GUEST, console="x" * fake_journal.SMALL_BYTES))
    journal.put(replace(GUEST, applied_generation=99))
    journal.close()
    assert (tmp_path / JOURNAL).stat().st_size > fake_journal.SMALL_BYTES
    again = Journal(tmp_path)
    assert (tmp_path / JOURNAL).stat().st_size < 1000
    again.put(replace(GUEST, instance_id="j"))
    again.close()
    assert [guest.applied_generation for guest in read_guests(tmp_path).values()] == [99, 1]


def test_guests_of_a_former_release_are_taken_over_once(tmp_path: Path) -> None:
    # Releases up to 0.2 wrote a page for each guest; the first of them had none of the later facts.
    later = ("console_offset", "typed", "boot", "was", "asked")
    first = {key: value for key, value in asdict(GUEST).items() if key not in later}
    second = asdict(replace(GUEST, instance_id="j", asked=(2, "1", 3.5)))
    for record in (first, second):
        path = tmp_path / f"{record['instance_id']}.1.json"
        path.write_bytes(json.dumps(record).encode().ljust(4096))
    (tmp_path / "k.1.new").write_bytes(b'{"cloud_id": "01')
    journal = Journal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]
    journal.remove(GUEST.claim)
    journal.close()
    assert read_guests(tmp_path) == {("j", 1): replace(GUEST, instance_id="j", asked=(2, "1", 3.5))}


def test_what_could_not_be_written_did_not_happen(tmp_path: Path, journal: Journal) -> None:
    journal.put(GUEST)
    journal.close()
    with pytest.raises(OSError, match="descriptor"):
        journal.put(replace(GUEST, applied_generation=7))
    with pytest.raises(OSError, match="descriptor"):
        journal.remove(GUEST.claim)
    assert journal.guests == read_guests(tmp_path) == {GUEST.claim: GUEST}


def test_the_journal_is_for_its_owner_alone(tmp_path: Path, journal: Journal) -> None:
    assert (tmp_path / JOURNAL).stat().st_mode & 0o777 == 0o600


def test_a_fleet_may_have_more_hosts_than_files_could_be_open(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 50, hard)
    )
    try:
        fleet = open_fleet(
            tmp_path,
            [f"h{number}" for number in range(100)],
            cloud_id="0123456789ab",
            capacity=Resources(1, 1, 1),
            faults=Faults(),
        )
        assert len(fleet) == len(list(tmp_path.glob(f"*/{JOURNAL}"))) == 100
        for driver in fleet.values():
            asyncio.run(driver.close())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
