"""Owns the lock files: every dependency with hashes, no registry's address. Installs nothing."""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
OPTIONS = [
    "--universal",
    "--python-version=3.11",
    "--fork-strategy=fewest",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--custom-compile-command=make lock",
    "--quiet",
]
LOCKS = {
    "build.lock": ["--group=pyproject.toml:build"],
    "runtime.lock": ["pyproject.toml"],
    "dev.lock": [
        "pyproject.toml",
        "--group=pyproject.toml:dev",
        "--constraints=requirements/runtime.lock",
    ],
}


def main(arguments: list[str]) -> int:
    """Writes requirements/*.lock again; `--upgrade` asks for the newest of everything."""
    uv = pathlib.Path(sys.executable).parent / "uv"
    for name, sources in LOCKS.items():
        output = f"--output-file=requirements/{name}"
        command = [str(uv), "pip", "compile", *sources, *OPTIONS, output, *arguments]
        ended = subprocess.run(command, cwd=ROOT, check=False)
        if ended.returncode != 0:
            print(f"stead: could not lock requirements/{name}", file=sys.stderr)
            return 1
        print(f"requirements/{name} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
