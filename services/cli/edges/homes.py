"""The files of one home: made, checked, locked, written down.

Owns `cloud.json`, the lock and the supervisor's state file. Keys and tokens are edges/keys.py's.
"""

import contextlib
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from services.cli.edges.files import write_private
from services.cli.flows.ports import Tell
from services.cli.logic import state as states
from services.cli.logic.home import FORMAT, Home, check_format, check_length
from services.cli.logic.state import CloudState
from services.domain.errors import Denied, Invalid, Unavailable

LOCK_TRIES = 5


class HomeStore:
    """One home. The lock, once taken, is held until the process ends."""

    def __init__(self, home: Home, *, tell: Tell) -> None:
        self._home = home
        self._tell = tell
        self._lock: int | None = None

    def open(self) -> str:
        """Makes the home, or checks and migrates it; the cloud's id.

        Raises Invalid (HOME_PATH_TOO_LONG, HOME_NEWER), Denied (HOME_NOT_YOURS), Unavailable
        (HOME_BROKEN).
        """
        self.make_folders()
        found = self._cloud()
        cloud_id = str(found.get("cloud_id") or secrets.token_hex(6))
        # A home without a number is older than the numbers.
        was = int(str(found.get("format", 0)))
        if found and check_format(self._home, was):
            self._tell(f"migrated the home {self._home.path} from layout {was} to {FORMAT}")
        if found.get("format") != FORMAT:
            written = {**found, "cloud_id": cloud_id, "format": FORMAT}
            write_private(self._home.cloud_file, json.dumps(written, indent=2) + "\n")
        return cloud_id

    def make_folders(self) -> None:
        """Makes the home's folders, readable only by their owner. Raises Invalid, Denied."""
        check_length(self._home, as_root=os.geteuid() == 0)
        self._check_folder()
        for folder in self._home.folders:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
                words = f"no folder can be made at {folder}: {error.strerror}"
                raise Invalid("HOME_UNUSABLE", words, field="STEAD_HOME") from error
        self._home.path.chmod(0o700)

    def _check_folder(self) -> None:
        """A wrong STEAD_HOME must not cost a folder of other things its mode."""
        home = self._home.path
        if not home.is_dir():
            return
        if home.stat().st_uid != os.geteuid():
            raise Denied(
                "HOME_NOT_YOURS",
                f"the home {home} belongs to another user; STEAD_HOME=FOLDER chooses another",
            )
        own = {folder.name for folder in self._home.folders} | {"postgres", "postgres.new"}
        # An interrupted first write leaves a name with a dot.
        names = {path.name for path in home.iterdir() if not path.name.startswith(".")}
        strange = sorted(names - own)
        if strange and not self._home.cloud_file.exists():
            raise Invalid(
                "HOME_NOT_EMPTY",
                f"{home} is no home of a cloud and not empty (it has {strange[0]}); "
                "STEAD_HOME=FOLDER chooses another",
            )

    def lock(self) -> bool:
        """Takes the supervisor's lock; false if another process has it."""
        descriptor = os.open(self._home.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        # Whoever only looks (`is_locked`) holds it for a moment: one refusal is no answer.
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            self._lock = descriptor
            return True
        os.close(descriptor)
        return False

    def is_locked(self) -> bool:
        """Whether a supervisor holds the lock now."""
        with contextlib.suppress(FileNotFoundError), self._home.lock_file.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def state_read(self) -> CloudState | None:
        """What the newest supervisor wrote down, None if that makes no sense.

        Raises PermissionError in the home of another user.
        """
        try:
            return states.read(json.loads(self._home.state_file.read_text()))
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None

    def state_write(self, state: CloudState) -> None:
        """Writes it down, at once or not at all."""
        write_private(self._home.state_file, json.dumps(states.written(state), indent=1) + "\n")

    def sockets_clear(self) -> None:
        """Removes every socket of the run folder; the caller holds the lock and has ended all
        leftovers.
        """
        for path in _sockets(self._home.run):
            path.unlink(missing_ok=True)

    def has_guests(self) -> bool:
        """Whether a compute of this home has left files of guests."""
        return any((self._home.path / "compute").glob("*/instances/*"))

    def _cloud(self) -> dict[str, object]:
        try:
            text = self._home.cloud_file.read_text()
        except FileNotFoundError:
            return {}
        try:
            found = json.loads(text)
            int(found.get("format", 0))
        except (ValueError, TypeError, AttributeError) as error:
            raise Unavailable(
                "HOME_BROKEN", f"{self._home.cloud_file} cannot be read: {error}"
            ) from error
        return dict(found)


def _sockets(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if stat.S_ISSOCK(path.lstat().st_mode):
            yield path
