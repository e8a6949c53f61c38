"""The journal of one fake host: its guests in one file, each change one line at the end of it.

A line is a guest as it is from then on, or the claim of one that is erased. Each is one write, so a
process that is killed has lost nothing that was answered: at most its last line is cut, and then
not counted. Does not know what guests do.
"""

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

from services.compute.edges.drivers.fake_guest import FakeGuest
from services.compute.logic.guest import Claim

JOURNAL = "guests.journal"
# Below this much it is not worth writing anew, however little of it lives.
SMALL_BYTES = 1 << 20
GROWN_TIMES = 4

_DRAFT_SUFFIX = ".new"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_FIELDS = tuple(field.name for field in fields(FakeGuest))
_values = attrgetter(*_FIELDS)
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Journal:
    """The guests of a folder by their claims. Methods raise OSError, and then nothing changed.

    A large file is written anew at the start, and when it has grown to several times of what lived
    then. Guests of former releases, one `NAME.json` each, are taken over.
    """

    def __init__(self, folder: Path) -> None:
        former = [*folder.glob("*.json"), *folder.glob(f"*{_DRAFT_SUFFIX}")]
        self.guests = read_guests(folder)
        self._path = folder / JOURNAL
        self._file = os.open(self._path, _FLAGS, 0o600)
        self._size_bytes = sum(map(len, _whole_lines(self._path)))
        self._limit_bytes = SMALL_BYTES
        os.ftruncate(self._file, self._size_bytes)
        if former or self._size_bytes > self._limit_bytes:
            self._write_anew()
        for path in former:
            path.unlink()

    def put(self, guest: FakeGuest) -> None:
        """Keeps the guest as it is now."""
        self._append(_line_of(guest))
        self.guests[guest.claim] = guest

    def remove(self, claim: Claim) -> None:
        """Keeps no guest of the claim."""
        self._append(_line({"erased": claim}))
        self.guests.pop(claim, None)

    def close(self) -> None:
        """Lets go of the file; it can be repeated."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _append(self, line: bytes) -> None:
        if self._size_bytes > self._limit_bytes:
            self._write_anew()
        _write(self._file, line, at=self._size_bytes)
        self._size_bytes += len(line)

    def _write_anew(self) -> None:
        content = b"".join(map(_line_of, self.guests.values()))
        draft = self._path.with_suffix(_DRAFT_SUFFIX)
        file = os.open(draft, _FLAGS | os.O_TRUNC, 0o600)
        try:
            _write(file, content, at=0)
            draft.replace(self._path)
        except OSError:
            os.close(file)
            raise
        self.close()
        self._file = file
        self._size_bytes = len(content)
        self._limit_bytes = max(SMALL_BYTES, GROWN_TIMES * len(content))


def read_guests(folder: Path) -> dict[Claim, FakeGuest]:
    """The guests that the folder's files tell of."""
    former = (path.read_bytes() for path in sorted(folder.glob("*.json")))
    guests: dict[Claim, FakeGuest] = {}
    for record in map(json.loads, (*former, *_whole_lines(folder / JOURNAL))):
        if "erased" in record:
            guests.pop(Claim(*record["erased"]), None)
        else:
            guest = _guest_of(**record)
            guests[guest.claim] = guest
    return guests


def _guest_of(*, asked: Iterable[float] | None = None, **record: object) -> FakeGuest:
    return FakeGuest(**record, asked=None if asked is None else tuple(asked))  # type: ignore[arg-type]  # JSON of our own


def _whole_lines(path: Path) -> list[bytes]:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines(keepends=True)


def _line_of(guest: FakeGuest) -> bytes:
    return _line(dict(zip(_FIELDS, _values(guest), strict=True)))


def _line(record: object) -> bytes:
    return _encode(record).encode() + b"\n"


def _write(file: int, content: bytes, *, at: int) -> None:
    """At the end of the file, which is at `at`: the whole of it or nothing."""
    if os.write(file, content) != len(content):
        os.ftruncate(file, at)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
