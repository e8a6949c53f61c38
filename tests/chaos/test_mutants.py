"""Goal: chaos notices when a protection is gone.

Method: two minutes of it over fake hosts alone with one protection switched off (`mutants.py`); it
must fail, and by a broken promise, not for having done too little.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.mutants import MUTANTS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_found_within_two_minutes(mutant: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--minutes", "2", "--fake-only",
         "--mutant", mutant, "--build", str(tmp_path)],
        cwd=ROOT, timeout=540, check=False, text=True, env=dict(os.environ),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "VIOLATION" in done.stdout, done.stdout
