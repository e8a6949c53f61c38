"""The libvirtd of one home: `python -m services.compute.edges.libvirtd --home DIR`.

It stays in the foreground and lives as long as libvirtd, which ends with it, on SIGTERM or when it
is killed. All state lies under DIR/libvirt; it neither needs nor meets a libvirtd of the system or
of another home. Guests outlive it, and the next one of the same home finds them again.
`--print-uri` says where it can be reached, and starts nothing.

    root         own namespaces for mounts and the host name, in which DIR/libvirt stands where
                 libvirtd looks; guests run as root, outside of all cgroups
    other users  libvirt's session mode, with its folders led to DIR/libvirt

Ends with 2 and a sentence on standard error when it cannot start.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from services.compute.edges.orphans import run_above

SOCKET_PATH_BYTES_MAX = 107
MOUNT_S = 30
ALONE_S = 5.0

_MODULE = "services.compute.edges.libvirtd"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEBIAN_USER = "libvirt-qemu"
_MOUNTS = {
    "run": "/run/libvirt",
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "logs": "/var/log/libvirt",
}
# libvirt keeps at most 20 characters of a domain's name in the path of its monitor's socket.
_LONGEST_MONITOR = "qemu/lib/domain-99999-stead-0123456789ab-0/monitor.sock"

_LIBVIRTD_CONF = """\
host_uuid = "{host_uuid}"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
log_outputs = "3:stderr"
"""
_QEMU_CONF = """\
security_driver = "none"
stdio_handler = "file"
"""
_QEMU_CONF_OF_ROOT = """\
user = "root"
group = "root"
dynamic_ownership = 0
namespaces = [ ]
cgroup_controllers = [ ]
"""


class CannotStart(Exception):
    """Why there can be no libvirtd here, and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the libvirtd of a home keeps its state, and how it is reached."""

    folder: Path
    as_root: bool

    @property
    def config(self) -> Path:
        """The folder of libvirtd.conf and qemu.conf."""
        return self.folder / "etc" if self.as_root else self.folder

    @property
    def run(self) -> Path:
        """The folder of its socket and pid file."""
        return self.folder / "run" if self.as_root else self.folder / "run/libvirt"

    @property
    def notes(self) -> Path:
        """The folder of its notes of guests that run."""
        return self.run / ("qemu" if self.as_root else "qemu/run")

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.run / "libvirt-sock"

    @property
    def uri(self) -> str:
        """What libvirt's clients open."""
        mode = "system" if self.as_root else "session"
        return f"qemu+unix:///{mode}?socket={quote(str(self.socket))}"

    def check(self) -> None:
        """Raises CannotStart if a socket's path would be too long."""
        paths = [self.socket.with_name("libvirt-admin-sock")]
        if not self.as_root:
            paths.append(self.folder / _LONGEST_MONITOR)
        longest = max(len(os.fsencode(path)) for path in paths)
        if longest > SOCKET_PATH_BYTES_MAX:
            home = self.folder.parent
            room = len(os.fsencode(home)) - (longest - SOCKET_PATH_BYTES_MAX)
            raise CannotStart(
                f"the path of the home is too long for unix sockets: {home} has "
                f"{len(os.fsencode(home))} bytes, at most {room} are possible: "
                "choose a shorter STEAD_HOME"
            )


def place_of(home: Path) -> Place:
    """The place of the libvirtd of `home` for the calling user."""
    return Place(home.resolve() / "libvirt", as_root=os.geteuid() == 0)


def main() -> None:
    """Runs libvirtd, or says why not."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {_MODULE}", description="Runs the libvirtd of one home."
    )
    parser.add_argument("--home", type=Path, required=True, help="the cloud's home")
    parser.add_argument("--print-uri", action="store_true", help="only say where it can be reached")
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    place = place_of(arguments.home)
    if arguments.print_uri:
        print(place.uri)
        return
    try:
        if arguments.in_namespace:
            _become_libvirtd_of_root(place)
        else:
            sys.exit(_run_libvirtd(place))
    except CannotStart as error:
        print(f"libvirtd cannot start: {error}", file=sys.stderr)
        sys.exit(2)


def _run_libvirtd(place: Place) -> int:
    place.check()
    _prepare(place)
    _wait_until_alone(place)
    _forget_unborn_guests(place)
    if not place.as_root:
        return run_above(_libvirtd(place.config, place.run), _session_environment(place))
    unshare = [_find("unshare", "util-linux"), "--mount", "--uts"]
    python = [sys.executable, *(["-P"] if sys.flags.safe_path else [])]
    again = [*python, "-m", _MODULE, "--home", str(place.folder.parent), "--in-namespace"]
    return run_above([*unshare, *again], dict(os.environ))


def _become_libvirtd_of_root(place: Place) -> None:
    _enter(place)
    command = _libvirtd(Path(_MOUNTS["etc"]), Path(_MOUNTS["run"]))
    os.execve(command[0], command, _environment(place))  # noqa: S606  # becomes the program


def _prepare(place: Place) -> None:
    for folder in (
        place.folder,
        place.config,
        place.run,
        *(place.folder / name for name in _MOUNTS),
    ):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    noted = place.folder / "host-uuid"
    if not noted.exists():
        partial = noted.with_suffix(".partial")
        partial.write_text(str(uuid.uuid4()))
        partial.rename(noted)
    host_uuid = str(uuid.UUID(noted.read_text().strip()))
    (place.config / "libvirtd.conf").write_text(_LIBVIRTD_CONF.format(host_uuid=host_uuid))
    qemu_conf = _QEMU_CONF + (_QEMU_CONF_OF_ROOT if place.as_root else "")
    (place.config / "qemu.conf").write_text(qemu_conf)


def _wait_until_alone(place: Place) -> None:
    give_up_at = time.monotonic() + ALONE_S
    while time.monotonic() < give_up_at:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ALONE_S)
            if client.connect_ex(str(place.socket)) != 0:
                return
        # The last one of a killed keeper is just being killed with it.
        time.sleep(ALONE_S / 50)
    raise CannotStart(f"there is one already, at {place.socket}")


def _forget_unborn_guests(place: Place) -> None:
    """Removes libvirtd's notes of guests whose QEMU had no process yet when libvirtd was killed.

    Such a QEMU never comes to life, but the next libvirtd would wait a minute for it.
    """
    for note in place.notes.glob("*.xml"):
        try:
            unborn = ElementTree.parse(note).getroot().get("pid") == "0"  # noqa: S314  # its own
        except ElementTree.ParseError:
            continue
        if unborn:
            note.unlink()


def _enter(place: Place) -> None:
    for name, target in _MOUNTS.items():
        Path(target).mkdir(mode=0o755, parents=True, exist_ok=True)
        _mount("mount", "--bind", "--", str(place.folder / name), target)
    # Debian's libvirtd does not start without this user, whom another package of it makes.
    _add(f"{_DEBIAN_USER}:x:65534:65534::/nonexistent:/usr/sbin/nologin", "/etc/passwd", place)
    _add(f"{_DEBIAN_USER}:x:65534:", "/etc/group", place)
    if os.path.ismount("/sys/fs/cgroup"):
        _mount("umount", "--lazy", "--", "/sys/fs/cgroup")
    # Two libvirtds of one host name and UUID would take each other for the same host. libvirtd asks
    # for the address of its host name at every start of a guest, and shall not wait for a network.
    hostname = f"stead-{(place.folder / 'host-uuid').read_text()[:8]}"
    _add(f"127.0.1.1 {hostname}", "/etc/hosts", place)
    socket.sethostname(hostname)


def _add(line: str, file: str, place: Place) -> None:
    """Adds a line to a file of the system, in this namespace alone, unless the user is there."""
    lines = Path(file).read_text().splitlines()
    if any(there.startswith(f"{_DEBIAN_USER}:") for there in lines):
        return
    extended = place.config / Path(file).name
    extended.write_text("\n".join([*lines, line, ""]))
    extended.chmod(0o644)
    _mount("mount", "--bind", "--", str(extended), file)


def _mount(*command: str) -> None:
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=MOUNT_S, check=False
    )
    if ended.returncode != 0:
        said = ended.stderr.decode(errors="replace").strip()
        raise CannotStart(f"`{' '.join(command)}` failed: {said}")


def _libvirtd(config: Path, run: Path) -> list[str]:
    return [
        _find("libvirtd", "libvirt-daemon libvirt-daemon-driver-qemu"),
        *("--config", str(config / "libvirtd.conf")),
        *("--pid-file", str(run / "libvirtd.pid")),
    ]


def _environment(place: Place) -> dict[str, str]:
    # A bus would tell others of these guests, or tell libvirtd to save and stop them.
    nowhere = f"unix:path={place.folder / 'no-bus'}"
    return {
        "PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}",
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "DBUS_SYSTEM_BUS_ADDRESS": nowhere,
        "DBUS_SESSION_BUS_ADDRESS": nowhere,
    }


def _session_environment(place: Place) -> dict[str, str]:
    return _environment(place) | {
        "XDG_CONFIG_HOME": str(place.folder.parent),
        "XDG_RUNTIME_DIR": str(place.folder / "run"),
        "XDG_CACHE_HOME": str(place.folder / "cache"),
        "XDG_DATA_HOME": str(place.folder / "lib"),
    }


def _find(command: str, packages: str) -> str:
    found = shutil.which(command, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
    if found is None:
        raise CannotStart(f"{command} is missing. Install it: apt-get install {packages}")
    return found


if __name__ == "__main__":
    main()
