"""Owns root file systems of a minimal Debian 12: made once a week, unpacked for each machine.

Where Debian and Python packages come from is read from the running system, and set in the new one
as it is here.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parent.parent / "build" / "fresh"
SUITE = "bookworm"
ADDED = ("make", "git", "python3", "sudo")
USER = "newcomer"
UID = 1000
NAME = "fresh"
MAKE_S = 900
# What tells pip and apt where to look, and whom to trust on the way.
SETTINGS = (
    "/etc/resolv.conf",
    "/etc/pip.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/local/share/ca-certificates",
)
OF_PIP = ("PIP_CERT", "PIP_CONFIG_FILE", "PIP_FIND_LINKS")


class NotMade(Exception):
    """There is no fresh Debian; the text says why, and what to do."""


def unpack(name: str) -> Path:
    """A new root file system, called `name`, in build/. Raises NotMade."""
    base = made_this_week()
    root = WORK / name
    remove(root)
    root.mkdir(parents=True)
    run("tar", "--extract", "--numeric-owner", "--file", str(base), "--directory", str(root))
    for source in wanted_settings():
        target = root / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)
    (root / "etc/apt/sources.list").write_text("\n".join(sources()) + "\n")
    (root / "etc/apt/apt.conf.d/90acquire").write_text("\n".join(acquire()) + "\n")
    return root


def made_this_week() -> Path:
    """The archive of the root file system; made if there is none of this week. Raises NotMade."""
    year, week, _ = datetime.datetime.now(tz=datetime.UTC).isocalendar()
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    base = WORK / f"debian-12-{year}-{week:02}-{recipe}.tar"
    if base.exists():
        return base
    WORK.mkdir(parents=True, exist_ok=True)
    for old in WORK.glob("debian-12-*.tar"):
        old.unlink()
    tree = WORK / "base"
    remove(tree)
    print(
        f"fresh: making a minimal Debian 12 with {', '.join(ADDED)} (kept for a week)", flush=True
    )
    mirror = sources()[0].split()[1]
    packages = f"--include={','.join(ADDED)}"
    own = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    run(*own, "debootstrap", "--variant=minbase", packages, SUITE, str(tree), mirror)
    settle(tree)
    partial = base.with_suffix(".partial")
    run("tar", "--create", "--numeric-owner", "--file", str(partial), "--directory", str(tree), ".")
    partial.rename(base)
    remove(tree)
    return base


def remove(tree: Path) -> None:
    """Removes a root file system, and nothing that should still be mounted in it."""
    run("rm", "--recursive", "--force", "--one-file-system", "--", str(tree))


def settle(tree: Path) -> None:
    """What an installer does after the packages: a name, and a user who may become root."""
    (tree / "etc/hostname").write_text(f"{NAME}\n")
    (tree / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {NAME}\n")
    user = ("--create-home", "--shell", "/bin/bash", "--uid", str(UID), USER)
    run("chroot", str(tree), "/usr/sbin/useradd", *user)
    rule = tree / "etc/sudoers.d" / USER
    rule.write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    rule.chmod(0o440)
    for archive in (tree / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()


def sources() -> list[str]:
    """Lines of sources.list: from where the running system takes Debian 12. Raises NotMade."""
    line = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    only = ("Created-By: Packages", "Origin: Debian")
    ask = ("apt-get", "indextargets", "--format", f"{line}\t$(CODENAME)", *only)
    listed = asked(*ask)
    if not listed:
        run("apt-get", "update", "-q")
        listed = asked(*ask)
    suites = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
    found = [row.partition("\t") for row in listed]
    chosen = [row for suite in suites for row, _, codename in found if codename == suite]
    if not chosen:
        raise NotMade(f"apt's sources name no Debian {SUITE}, from which a fresh one could be made")
    return list(dict.fromkeys(chosen))


def acquire() -> list[str]:
    """How the running system's apt fetches: proxies, retries, checks."""
    ours = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::CompressionTypes")
    said = asked("apt-config", "dump")
    return [row for row in said if row.startswith("Acquire::") and not row.startswith(ours)]


def environment() -> dict[str, str]:
    """The variables of the caller by which pip and others reach what they download."""
    names = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
    return {
        key: value
        for key, value in os.environ.items()
        if key.startswith("PIP_") or key.upper() in proxies or key in names
    }


def wanted_settings() -> list[Path]:
    """Files and folders of the running system that the new one gets as they are."""
    named = [word for key in OF_PIP for word in os.environ.get(key, "").split()]
    paths = [Path(word) for word in (*SETTINGS, *named) if word.startswith("/")]
    return [path for path in dict.fromkeys(paths) if path.exists()]


def asked(*command: str) -> list[str]:
    """The lines that a command says. Raises NotMade."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_S, check=False)
    if ended.returncode != 0:
        raise NotMade(f"`{' '.join(command)}` failed: {ended.stderr.strip()[-1000:]}")
    return ended.stdout.splitlines()


def run(*command: str) -> None:
    """Runs a command to its end, its words into build/fresh/making.log. Raises NotMade."""
    log = WORK / "making.log"
    with log.open("ab") as output:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=MAKE_S,
            check=False,
        )
    if ended.returncode != 0:
        words = log.read_text(errors="replace").splitlines()[-5:]
        raise NotMade("\n  ".join([f"`{' '.join(command)}` failed; {log} ends:", *words]))
