"""What a stranger has who was given the contract and one of the programs in clients/: a folder of
their own in which code is made from build/stead.binpb, and the tools of their language.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import proto

ROOT = Path(__file__).parents[2]
# Kept between runs: modules and packages are fetched once.
ROOM = ROOT / "build" / "strangers"
TOOLS_DEADLINE_S = 600
PROGRAM_DEADLINE_S = 240
GO_AT_LEAST = (1, 26)
NODE_AT_LEAST = (20, 0)


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said."""

    code: int
    said: str
    complained: str

    @property
    def seen(self) -> dict[str, Any]:
        """The JSON in its last line."""
        return dict(json.loads(self.said.strip().splitlines()[-1]))


def furnish(language: str) -> Path:
    """A folder with the program in that language, beside the contract and the service config."""
    home = ROOM / "clients" / language
    home.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "clients" / language).iterdir():
        if path.is_file():
            shutil.copyfile(path, home / path.name)
    (ROOM / "docs").mkdir(exist_ok=True)
    shutil.copyfile(ROOT / "docs" / "service-config.json", ROOM / "docs" / "service-config.json")
    (ROOM / "build").mkdir(exist_ok=True)
    proto.write_image(ROOM / "build" / "stead.binpb", files=proto.public())
    return home


def run(argv: Sequence[str], folder: Path, *, deadline_s: float = TOOLS_DEADLINE_S) -> Ended:
    """Runs a program to its end, with buf and python of .venv found first."""
    found = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    cache = {"BUF_CACHE_DIR": str(ROOT / "build" / "buf-cache")}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STEAD_")}
    done = subprocess.run(
        list(argv), cwd=folder, env=kept | cache | {"PATH": found}, capture_output=True,
        text=True, timeout=deadline_s, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def must(argv: Sequence[str], folder: Path) -> str:
    """What a tool says that must end well."""
    ended = run(argv, folder)
    assert ended.code == 0, f"{' '.join(argv)}\n{ended.said}\n{ended.complained}"
    return ended.said


def need(program: str, at_least: tuple[int, int]) -> None:
    """Fails the test, saying what to install, unless the program is there and new enough."""
    wanted = f"{program} {at_least[0]}.{at_least[1]} or newer"
    assert shutil.which(program), f"this test needs {wanted} on the PATH: install it"
    told = must([program, "version"] if program == "go" else [program, "--version"], ROOT)
    found = re.search(r"(\d+)\.(\d+)", told)
    assert found, told
    assert tuple(map(int, found.groups())) >= at_least, f"this test needs {wanted}, not {told}"


def go_program() -> list[str]:
    """The Go program, made from the contract."""
    need("go", GO_AT_LEAST)
    home = furnish("go")
    must(["buf", "generate"], home)
    must(["go", "vet", "./..."], home)
    written = sorted(path.name for path in home.glob("*.go"))
    assert must(["gofmt", "-l", *written], home) == ""
    must(["go", "test", "."], home)
    must(["go", "build", "-o", "client", "."], home)
    return [str(home / "client")]


def node_program() -> list[str]:
    """The Node program, made from the contract."""
    need("node", NODE_AT_LEAST)
    need("npm", (9, 0))
    home = furnish("node")
    must(["npm", "ci", "--no-audit", "--no-fund"], home)
    must(["buf", "generate"], home)
    must(["node", "--test"], home)
    return ["node", "main.js"]


def python_program() -> list[str]:
    """The Python program, made from the contract and not from what stead itself imports."""
    home = furnish("python")
    shutil.rmtree(home / "gen", ignore_errors=True)
    (home / "gen").mkdir()
    image = ["python", "-m", "grpc_tools.protoc", "--descriptor_set_in=../../build/stead.binpb"]
    nouns = [name for name in proto.public() if name.startswith("stead/")]
    must([*image, "--python_out=gen", proto.VALIDATE, *nouns], home)
    must([*image, "--grpc_python_out=gen", *nouns], home)
    return ["env", "PYTHONPATH=gen", "python", "main.py"]
