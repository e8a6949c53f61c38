"""Sees what `make setup`, `make clean` and `.ci/run` say and do when something is in the way."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

import run_tests as rooms

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SYSTEM_PYTHON = "/usr/bin/python3"
FAKES = {
    "dpkg": "exit 0",
    "dpkg-query": "echo 'ii  base-files'",
    "apt-get": 'echo "Err:1 no route"; echo "E: Failed to fetch the archive"; exit 100',
}


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
    """A checkout without .venv and build/, with a PATH folder that holds next to nothing."""
    top = tmp_path / "clone"
    for name in ["scripts", "requirements", ".ci"]:
        shutil.copytree(ROOT / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ["pyproject.toml", "Makefile", "LICENSE"]:
        shutil.copyfile(ROOT / name, top / name)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ["env", "sh", "make", "awk", "mount", "cat"]:
        found = shutil.which(name)
        assert found, f"install {name}"
        (programs / name).symlink_to(found)
    (programs / "python3").symlink_to(SYSTEM_PYTHON)
    return top


def fake(clone: pathlib.Path, *names: str) -> None:
    """Puts programs on the clone's PATH that only pretend."""
    for name in names:
        program = clone.parent / "programs" / name
        program.write_text(f"#!/bin/sh\n{FAKES[name]}\n")
        program.chmod(0o755)


def run(clone: pathlib.Path, *command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
    """Runs a command in the clone as a root or as a user, either of them only in appearance."""
    mapping = ["--map-root-user"] if user == "root" else ["--map-user=1000", "--map-group=1000"]
    unshare = shutil.which("unshare")
    assert unshare, "install util-linux"
    return subprocess.run(
        [unshare, "--user", "--mount", *mapping, *command],
        cwd=clone,
        env={"PATH": str(clone.parent / "programs"), "HOME": str(clone.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_without_sudo_setup_prints_the_line_for_root(clone: pathlib.Path) -> None:
    fake(clone, "dpkg", "dpkg-query", "apt-get")
    ended = run(clone, "make", "setup", user="somebody")
    assert ended.returncode == 2
    line = next(line for line in ended.stderr.splitlines() if "apt-get install" in line)
    assert line.strip().startswith("apt-get install --no-install-recommends ")
    assert {"libvirt-clients", "qemu-utils"} <= set(line.split())


def test_without_a_network_setup_says_which_debian_packages_it_wanted(clone: pathlib.Path) -> None:
    fake(clone, "dpkg", "dpkg-query", "apt-get")
    ended = run(clone, "make", "setup")
    assert ended.returncode == 2
    assert "qemu-utils" in ended.stderr
    assert "E: Failed to fetch the archive" in ended.stderr
    assert "Is there a network?" in ended.stderr


def test_without_apt_setup_says_what_to_install_by_hand(clone: pathlib.Path) -> None:
    ended = run(clone, "make", "setup")
    assert ended.returncode == 2
    assert "by hand" in ended.stderr
    assert "qemu-utils" in ended.stderr


def test_another_distribution_is_said_once_and_no_obstacle(clone: pathlib.Path) -> None:
    fake(clone, "dpkg", "dpkg-query", "apt-get")
    release = clone.parent / "os-release"
    release.write_text('ID=debian\nVERSION_ID="14"\n')
    script = f"mount --bind {release} /etc/os-release && python3 scripts/setup.py"
    first, second = (run(clone, "sh", "-c", script) for _ in range(2))
    assert "not tested here: debian 14" in first.stdout
    assert "installing Debian packages" in first.stdout
    assert "not tested here" not in second.stdout


def test_another_processor_is_read_said_once_and_no_obstacle(clone: pathlib.Path) -> None:
    fake(clone, "dpkg", "dpkg-query", "apt-get")
    setarch = shutil.which("setarch")
    assert setarch, "install util-linux"
    first, second = (run(clone, setarch, "i686", "python3", "scripts/setup.py") for _ in range(2))
    assert re.search(r"not tested here: .* on i686 ", first.stdout), first.stdout
    assert "installing Debian packages" in first.stdout
    assert "not tested here" not in second.stdout


def test_what_apt_added_is_remembered_even_when_it_was_interrupted(clone: pathlib.Path) -> None:
    fake(clone, "dpkg", "apt-get")
    (clone / "build").mkdir()
    (clone / "build/debian-packages-before").write_text("base-files\n")
    listing = clone.parent / "programs" / "dpkg-query"
    listing.write_text("#!/bin/sh\necho 'ii  base-files'; echo 'ii  qemu-utils'; echo 'rc  gone'\n")
    listing.chmod(0o755)
    run(clone, "make", "setup")
    assert (clone / "build/debian-packages-added").read_text().split() == ["qemu-utils"]


def test_without_a_network_setup_says_which_python_package_it_wanted(clone: pathlib.Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import environment; environment.make()"],
        cwd=clone,
        env={
            **{name: word for name, word in os.environ.items() if not name.startswith("PIP_")},
            "PYTHONPATH": str(clone / "scripts"),
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert ended.returncode != 0
    assert "could not install editables" in ended.stderr
    assert "Is there a network?" in ended.stderr
    assert not (clone / ".venv/stead-stamp.json").exists()


def current(clone: pathlib.Path) -> bool:
    """Whether the clone takes its .venv for whole and up to date."""
    answer = subprocess.run(
        [sys.executable, "-c", "import environment; print(environment.is_current())"],
        env={**os.environ, "PYTHONPATH": str(clone / "scripts")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return answer.stdout.strip() == "True"


@pytest.fixture
def whole(clone: pathlib.Path) -> pathlib.Path:
    """A clone with a .venv that looks finished."""
    python = clone / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(SYSTEM_PYTHON)
    asked = [sys.executable, "-c", "import environment; print(environment.fingerprint())"]
    environment = {**os.environ, "PYTHONPATH": str(clone / "scripts")}
    found = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
    stamp = {"fingerprint": found.stdout.strip(), "python": str(python.resolve())}
    (clone / ".venv/stead-stamp.json").write_text(json.dumps(stamp))
    return clone


def test_a_whole_environment_is_left_as_it_is(whole: pathlib.Path) -> None:
    assert current(whole)


def test_an_environment_that_was_interrupted_is_made_again(whole: pathlib.Path) -> None:
    (whole / ".venv/stead-stamp.json").unlink()
    assert not current(whole)


def test_a_half_written_stamp_counts_for_nothing(whole: pathlib.Path) -> None:
    (whole / ".venv/stead-stamp.json").write_text('{"finger')
    assert not current(whole)


@pytest.mark.parametrize("changed", ["requirements/dev.lock", "requirements/build.lock"])
def test_an_environment_of_an_older_lock_is_updated(whole: pathlib.Path, changed: str) -> None:
    with (whole / changed).open("a") as lock:
        lock.write("another==1.0\n")
    assert not current(whole)


def test_a_setting_of_a_linter_does_not_make_the_environment_old(whole: pathlib.Path) -> None:
    settings = whole / "pyproject.toml"
    settings.write_text(settings.read_text().replace("line-length = 100", "line-length = 99"))
    assert current(whole)


def test_an_environment_whose_python_went_away_is_made_again(whole: pathlib.Path) -> None:
    (whole / ".venv/bin/python").unlink()
    (whole / ".venv/bin/python").symlink_to("/usr/bin/python3.1")
    assert not current(whole)


def test_a_checkout_that_was_moved_makes_its_environment_again(whole: pathlib.Path) -> None:
    moved = whole.rename(whole.parent / "elsewhere")
    assert not current(moved)


def test_setup_with_nothing_to_do_is_quick_and_silent() -> None:
    began = time.monotonic()
    ended = subprocess.run(
        ["make", "--no-print-directory", "setup"],
        cwd=ROOT,
        env={name: word for name, word in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert time.monotonic() - began < 60


def test_clean_says_what_it_removes_and_what_it_leaves(whole: pathlib.Path) -> None:
    added = whole / "build/debian-packages-added"
    added.parent.mkdir()
    added.write_text("qemu-utils\nseabios\n")
    (whole / "build/test.json").write_text("{}")
    ended = run(whole, "make", "clean")
    assert ended.returncode == 0, ended.stderr
    assert "removing .venv/" in ended.stdout
    assert "removing build/" in ended.stdout
    assert "apt-get remove qemu-utils seabios" in ended.stdout
    assert not (whole / ".venv").exists()
    assert [path.name for path in (whole / "build").iterdir()] == ["debian-packages-added"]


def test_clean_refuses_while_something_runs_from_here(whole: pathlib.Path) -> None:
    guest = subprocess.Popen(
        [str(whole / ".venv/bin/python"), "-c", "input()"], stdin=subprocess.PIPE
    )
    try:
        ended = subprocess.run(
            [sys.executable, "scripts/clean.py"],
            cwd=whole,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        guest.communicate()
    assert ended.returncode == 2
    assert str(guest.pid) in ended.stderr
    assert (whole / ".venv").exists()


def run_tests(clone: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `make test` runs, in the clone."""
    return subprocess.run(
        [sys.executable, "scripts/run_tests.py", "test", *arguments],
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("body", "code", "closing"),
    [
        ("def test_a():\n    assert True\n", 0, " 1 passed in "),
        ("def test_a():\n    assert False\n", 1, " 1 failed in "),
        ("", 5, " no tests ran in "),
    ],
)
def test_a_run_of_tests_ends_with_what_pytest_says(
    clone: pathlib.Path, body: str, code: int, closing: str
) -> None:
    (clone / "tests/unit").mkdir(parents=True)
    (clone / "tests/unit/test_it.py").write_text(body)
    ended = run_tests(clone)
    assert ended.returncode == code
    assert closing in ended.stdout.splitlines()[-1]
    figures = json.loads((clone / "build/test.json").read_text())
    assert (figures["passed"], figures["failed"]) == (int(code == 0), int(code == 1))


def test_workers_share_the_files_and_one_line_closes_the_run(clone: pathlib.Path) -> None:
    (clone / "tests/unit").mkdir(parents=True)
    body = """
        import os, pathlib
        SEEN, WORKER = pathlib.Path("seen") / __name__, os.environ["PYTEST_XDIST_WORKER"]
        def test_a():
            SEEN.write_text(WORKER)
        def test_b():
            assert SEEN.read_text() == WORKER
    """
    (clone / "seen").mkdir()
    for name in ("one", "two", "three"):
        (clone / f"tests/unit/test_{name}.py").write_text(textwrap.dedent(body))
    (clone / "tests/unit/test_four.py").write_text("def test_c():\n    assert False, 'why'\n")
    ended = run_tests(clone)
    assert ended.returncode == 1
    assert "AssertionError: why" in ended.stdout
    assert " 1 failed, 6 passed in " in ended.stdout.splitlines()[-1]
    assert len({path.read_text() for path in (clone / "seen").iterdir()}) == 2
    figures = json.loads((clone / "build/test.json").read_text())
    assert (figures["passed"], figures["failed"]) == (6, 1)
    assert figures["failures"] == ["tests/unit/test_four.py::test_c"]


def test_arguments_go_to_pytest_and_one_file_needs_no_workers(clone: pathlib.Path) -> None:
    (clone / "tests/unit").mkdir(parents=True)
    for name in ("one", "two"):
        body = f"def test_{name}(): pass\ndef test_more(): pass\n"
        (clone / f"tests/unit/test_{name}.py").write_text(body)
    chosen = run_tests(clone, "-k", "one and not more")
    assert chosen.returncode == 0
    assert " 1 passed" in chosen.stdout.splitlines()[-1]
    named = run_tests(clone, "tests/unit/test_two.py", "-x")
    assert " 2 passed" in named.stdout.splitlines()[-1]
    assert "worker" not in named.stdout


def test_every_folder_with_tests_is_a_room() -> None:
    top = ROOT / "tests"
    found = {path.relative_to(top).parts[0] for path in top.rglob("test_*.py")}
    assert found <= set(rooms.ROOMS)


def test_ci_fails_when_make_test_fails(clone: pathlib.Path) -> None:
    fake(clone, "dpkg", "dpkg-query", "apt-get")
    bash = shutil.which("bash")
    assert bash
    for name in ("dirname", "grep"):
        found = shutil.which(name)
        assert found, f"install {name}"
        (clone.parent / "programs" / name).symlink_to(found)
    ended = run(clone, bash, ".ci/run")
    assert ended.returncode == 2
