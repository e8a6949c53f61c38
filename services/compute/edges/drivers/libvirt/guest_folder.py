"""The folder of one guest under the state folder: where its files are, and how they come and go.

`identity.json` is the first file in and the last one out: it tells whose a half-made guest is.
Does not own what stands in the other files.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from services.compute.edges.drivers.libvirt.console_log import let_go_of_old
from services.compute.edges.drivers.libvirt.guest_metadata import checked
from services.compute.logic.guest import NO_NOTES, Asking, Identity, Notes
from services.domain.errors import Conflict

INSTANCES = "instances"
PARTIAL = ".partial"

_IDENTITY = "identity.json"
_NOTES = "notes.json"


class GuestFolder:
    """The paths of one guest."""

    def __init__(self, state_dir: Path, instance_id: str) -> None:
        self.path = state_dir / INSTANCES / instance_id
        self.disk = self.path / "disk.qcow2"
        self.config_drive = self.path / "config.iso"
        self.console_log = self.path / "console.log"
        self._identity = self.path / _IDENTITY
        self._notes = self.path / _NOTES

    def claim(self, identity: Identity) -> None:
        """Makes the folder for a guest; raises Conflict if it is another claim's."""
        there = self.identity()
        if there == identity:
            return
        if there is not None:
            raise Conflict(
                "GUEST_OF_OTHER_CLAIM", f"{self.path} belongs to {there}, not {identity}"
            )
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = {
            "cloud_id": identity.cloud_id,
            "instance_id": identity.instance_id,
            "epoch": identity.epoch,
        }
        with whole_file(self._identity) as partial:
            partial.write_text(json.dumps(written))
        sync(self.path.parent)

    def identity(self) -> Identity | None:
        """Whose folder it is; None if it is nobody's, or its note is spoilt."""
        try:
            written = json.loads(self._identity.read_bytes())
            return checked(Identity(written["cloud_id"], written["instance_id"], written["epoch"]))
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None

    def write_notes(self, notes: Notes) -> None:
        """Puts the notes, durably, in the place of older ones."""
        with whole_file(self._notes) as partial:
            partial.write_text(json.dumps(asdict(notes)))

    def notes(self) -> Notes:
        """The notes, or those of a guest beside which nothing was noted."""
        try:
            written = json.loads(self._notes.read_bytes())
            asked = written["asked"]
            return Notes(
                int(written["boot"]),
                str(written["was"]),
                None if asked is None else Asking(**asked),
                # What older releases wrote does not have it.
                str(written.get("ran_in", "")),
            )
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return NO_NOTES

    def erase(self) -> None:
        """Removes the folder and all in it; it can be repeated after an interruption."""
        if not self.path.is_dir():
            return
        for entry in self.path.iterdir():
            if entry != self._identity:
                entry.unlink()
        self._identity.unlink(missing_ok=True)
        self.path.rmdir()
        sync(self.path.parent)


def guest_folders(state_dir: Path) -> list[GuestFolder]:
    """The folders of all guests, also half-made ones."""
    try:
        names = sorted(path.name for path in (state_dir / INSTANCES).iterdir())
    except FileNotFoundError:
        return []
    return [GuestFolder(state_dir, name) for name in names]


def begun_guests(folders: Iterable[GuestFolder], cloud_id: str) -> dict[Identity, Notes]:
    """The cloud's guests that have one of the folders, and what is noted there. Lets go of what is
    too old of their consoles.
    """
    begun = {}
    for folder in folders:
        let_go_of_old(folder.console_log)
        identity = folder.identity()
        if identity is not None and identity.cloud_id == cloud_id:
            begun[identity] = folder.notes()
    return begun


def remove_empty_folders(state_dir: Path) -> None:
    """Removes what an interrupted `erase` left; only while nobody makes guests."""
    for folder in guest_folders(state_dir):
        with contextlib.suppress(OSError):
            folder.path.rmdir()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a path to write to; afterwards it is at `path`, durably and for its owner alone."""
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)
    yield partial
    partial.chmod(0o600)
    sync(partial)
    partial.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
