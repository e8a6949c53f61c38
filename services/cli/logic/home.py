"""The layout of a home, and what may stand in the way of using one.

Owns names under `$STEAD_HOME` and the number of the layout. Touches no file.
"""

from dataclasses import dataclass
from pathlib import Path

from services.domain.errors import Invalid

FORMAT = 1
SOCKET_PATH_BYTES_MAX = 107
# Our own longest, and libvirt's: its own socket for root, QEMU's monitor in its session mode.
_SOCKETS = ("run/scheduler-0-admin.sock", "libvirt/run/libvirt-admin-sock")
_SESSION_SOCKETS = ("libvirt/qemu/lib/domain-99999-stead-0123456789ab-0/monitor.sock",)


@dataclass(frozen=True, slots=True)
class Home:
    """Where one cloud keeps all that it has on this machine."""

    path: Path

    @property
    def cloud_file(self) -> Path:
        """Cloud id and the layout's number."""
        return self.path / "cloud.json"

    @property
    def token_file(self) -> Path:
        """The cloud admin's token."""
        return self.path / "admin.token"

    @property
    def signing_key_file(self) -> Path:
        """The private key that signs tokens."""
        return self.path / "keys" / "token.key"

    @property
    def public_key_file(self) -> Path:
        """The key that checks tokens."""
        return self.path / "keys" / "token.pub"

    @property
    def page_key_file(self) -> Path:
        """The secret under which page tokens are sealed."""
        return self.path / "keys" / "page.key"

    @property
    def run(self) -> Path:
        """Sockets and what is true only while the cloud runs."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """One file per service."""
        return self.path / "logs"

    @property
    def state_file(self) -> Path:
        """What the supervisor started, and how."""
        return self.run / "state.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the supervisor for its life."""
        return self.run / "lock"

    @property
    def postgres(self) -> Path:
        """The data folder of the embedded PostgreSQL."""
        return self.path / "postgres"

    @property
    def nats_credential_file(self) -> Path:
        """`USER:PASSWORD` of the embedded NATS."""
        return self.run / "nats.credential"

    @property
    def nats_config_file(self) -> Path:
        """The embedded NATS server's own settings."""
        return self.run / "nats.conf"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that must be there before anything starts."""
        names = ("keys", "logs", "run", "images", "compute", "libvirt")
        return (self.path, *(self.path / name for name in names))


def check_length(home: Home, *, as_root: bool) -> None:
    """Raises Invalid (HOME_PATH_TOO_LONG) if a unix socket under the home could not be bound."""
    sockets = _SOCKETS if as_root else _SOCKETS + _SESSION_SOCKETS
    longest = max((str(home.path / name) for name in sockets), key=lambda path: len(path.encode()))
    length = len(longest.encode())
    if length <= SOCKET_PATH_BYTES_MAX:
        return
    room = SOCKET_PATH_BYTES_MAX - (length - len(str(home.path).encode()))
    raise Invalid(
        "HOME_PATH_TOO_LONG",
        f"the home {home.path} is {len(str(home.path).encode())} bytes long and may have {room}: "
        f"the unix socket {longest} would need {length} of {SOCKET_PATH_BYTES_MAX} bytes",
        metadata={"home": str(home.path), "length_bytes": str(length), "room_bytes": str(room)},
    )


def check_format(home: Home, found: int) -> bool:
    """Whether the home must be migrated. Raises Invalid (HOME_NEWER) if a later stead made it."""
    if found > FORMAT:
        raise Invalid(
            "HOME_NEWER",
            f"the home {home.path} has layout {found}; this stead knows layouts up to {FORMAT}",
            metadata={"home": str(home.path), "found": str(found), "known": str(FORMAT)},
        )
    return found < FORMAT
