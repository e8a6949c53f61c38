"""The machine itself: who it is, which boot this is, and the locks that keep a second agent out.

Does not know what the machine can hold: the driver does.
"""

import fcntl
import os
import socket
import uuid
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class AgentAlreadyRunsError(Exception):
    """Another agent has this state folder or this host id on this machine."""


def machine_id(state_dir: Path) -> str:
    """Identifies the machine across boots; where the system has no id, one is made and kept in
    `state_dir`.
    """
    for file in (*MACHINE_ID_FILES, state_dir / "machine-id"):
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if len(text) == 32:
            return text
    made = uuid.uuid4().hex
    (state_dir / "machine-id").write_text(made + "\n")
    return made


def boot_id() -> str:
    """Identifies this boot of the machine."""
    return BOOT_ID_FILE.read_text().strip()


def agent_version() -> str:
    """The release of stead that this is; "0" outside an installation."""
    try:
        return metadata.version("stead")
    except metadata.PackageNotFoundError:
        return "0"


def lock_state_dir(state_dir: Path) -> BinaryIO:
    """Makes the folder and locks it until the process ends; keep what is given back.

    Raises AgentAlreadyRunsError, which names the other agent.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    file = os.fdopen(descriptor, "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = file.read(32).decode("ascii", "replace").strip() or "unknown"
        file.close()
        raise AgentAlreadyRunsError(
            f"an agent with process id {owner} uses {state_dir}; end it first, "
            "or give this one another STEAD_COMPUTE_STATE_DIR and STEAD_COMPUTE_HOST_ID"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n".encode())
    file.flush()
    return file


def lock_host_id(cloud_id: str, host_id: str) -> socket.socket:
    """Takes the host's name on this machine until the process ends; keep what is given back.

    An abstract socket is bound, which leaves no file behind. Raises AgentAlreadyRunsError.
    """
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        taken.bind(f"\0stead.compute.{cloud_id}.{host_id}")
    except OSError:
        taken.close()
        raise AgentAlreadyRunsError(
            f"an agent of host {host_id} of cloud {cloud_id} runs on this machine already; "
            "give this one another STEAD_COMPUTE_HOST_ID"
        ) from None
    return taken
