"""Goal: who has nothing but the contract can use stead: programs in three languages, each made from
it by buf or protoc alone, create, watch through forced reconnects, read refusals and delete.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.strangers import (
    PROGRAM_DEADLINE_S,
    ROOM,
    Ended,
    go_program,
    node_program,
    python_program,
    run,
)
from tests.clouds import Cloud

PROGRAMS: dict[str, Callable[[], list[str]]] = {
    "go": go_program,
    "node": node_program,
    "python": python_program,
}
REFUSED = ["INVALID_FIELD", "INVALID_INSTANCE_STATE", "ETAG_MISMATCH", "QUOTA_EXCEEDED"]
# Their tools and packages come from outside.
LANGUAGES = [
    pytest.param("go", marks=pytest.mark.slow),
    pytest.param("node", marks=pytest.mark.slow),
    "python",
]


def token_file(of: Cloud, project: str, folder: Path) -> Path:
    """A file with the token of a member of the project."""
    file = folder / f"{project}.token"
    file.touch(mode=0o600)
    file.write_text(of.run("token", "create", "--project", project, "--for", "1h").stdout)
    return file


def started(language: str, of: Cloud, token: Path, *flags: str) -> Ended:
    """Runs the program against every replica of the cloud."""
    endpoints = ",".join(row["endpoint"] for row in of.services()["api"])
    words = ["--endpoints", endpoints, "--token-file", str(token), *flags]
    argv = [*PROGRAMS[language](), *words]
    return run(argv, ROOM / "clients" / language, deadline_s=PROGRAM_DEADLINE_S)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_program_made_from_the_contract_alone_finds_what_it_promises(
    shop: Cloud, tmp_path: Path, language: str
) -> None:
    project = f"from-{language}"
    shop.run("quota", "set", project, "--instances", "1")
    ended = started(language, shop, token_file(shop, project, tmp_path))
    assert ended.code == 0, f"{ended.said}\n{ended.complained}"
    logged = shop.sql(
        f"SELECT version FROM change WHERE kind = 1 AND project_id = '{project}' ORDER BY revision"
    )
    seen = ended.seen
    assert seen["versions"] == [int(version) for version in logged.splitlines()]
    assert seen["versions"] == list(range(1, len(seen["versions"]) + 1))
    states = [state.removeprefix("INSTANCE_STATE_") for state in seen["states"]]
    assert list(dict.fromkeys(states)) == ["REQUESTED", "BUILDING", "ACTIVE", "DELETED"]
    assert seen["reconnects"] >= len(seen["versions"]) - 1
    assert seen["reasons"] == REFUSED
    work = [action.removeprefix("OPERATION_ACTION_") for action in seen["work"]]
    assert work == ["CREATE_INSTANCE", "UPDATE_INSTANCE", "DELETE_INSTANCE"]


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_program_that_finds_something_else_says_so_and_fails(
    shop: Cloud, tmp_path: Path, language: str
) -> None:
    token = token_file(shop, f"else-{language}", tmp_path)
    ended = started(language, shop, token, "--image", "never-imported")
    assert ended.code == 1
    assert "not as promised" in ended.complained
