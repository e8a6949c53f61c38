"""Goal: README is true, word for word: its shell blocks run, in order, and print what it says.

Method: each line of each block runs as a newcomer would type it, in a home and on a port of the
test's own. Two lines are run on less: `make test` on one folder (it would run this test again),
`make clean` in a clone in which nothing was built (here it would take away what the test runs on).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import free_port

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
SCREEN_LINES = 50


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """What a newcomer's shell has, with a home and a port of the test's own."""
    home = Path(tempfile.mkdtemp(prefix="stead-"))
    endpoint = f"127.0.0.1:{free_port()}"
    mine = {key: value for key, value in os.environ.items() if not key.startswith("STEAD_")}
    made = mine | {
        "STEAD_HOME": str(home / "h"),
        "STEAD_API_LISTEN": endpoint,
        "STEAD_ENDPOINT": endpoint,
    }
    yield made
    subprocess.run(["make", "down"], cwd=REPOSITORY, env=made, check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


def run(line: str, folder: Path, environment: dict[str, str]) -> str:
    """What a line prints; fails the test if it does not end well."""
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=600, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(900)
def test_every_shell_line_of_the_readme_runs(environment: dict[str, str], tmp_path: Path) -> None:
    """In order, and `make demo` ends as README shows it."""
    clone = tmp_path / "clone"
    run(f"git clone -q {REPOSITORY} {clone}", tmp_path, environment)
    for line in LINES:
        if line == "make clean":
            run(line, clone, environment)
        elif line == "make test":
            run('make test ARGS="-q tests/unit/domain"', REPOSITORY, environment)
        else:
            printed = run(line, REPOSITORY, environment)
            if line == "make demo":
                assert same_end(printed)


def same_end(printed: str) -> bool:
    """Whether what demo printed has the lines that README shows, but for ids, hosts and spaces."""
    shown = re.search(r"It ends so:\n\n```\n(.*?)```", README, re.DOTALL)
    assert shown is not None
    text = " ".join(printed.split())
    for line in shown.group(1).splitlines():
        words = re.escape(" ".join(line.split()))
        words = re.sub(r"[0-9a-f]{8}(\\-[0-9a-f]+){4}", "[0-9a-f-]{36}", words)
        words = words.replace(r"on\ vm", r"on\ \S+")
        assert re.search(words, text), f"README shows {line!r}, demo printed\n{printed}"
    return True


def test_the_readme_fits_two_screens() -> None:
    """And says what it must."""
    assert len(README.splitlines()) <= 2 * SCREEN_LINES
    for title in ("Two commands", "The shape", "not there yet", "Remove everything"):
        assert title in README
    assert {"make demo", "make test"} <= set(LINES)
