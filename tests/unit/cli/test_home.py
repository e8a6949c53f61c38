"""The layout of a home."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.logic.home import FORMAT, SOCKET_PATH_BYTES_MAX, Home, check_format, check_length
from services.cli.logic.surroundings import surroundings
from services.domain.errors import Invalid


def _home_of(length: int) -> Home:
    return Home(Path("/" + "h" * (length - 1)))


@pytest.mark.parametrize("as_root", [True, False])
def test_a_home_path_is_refused_from_the_first_byte_that_does_not_fit(as_root: bool) -> None:
    fitting = max(n for n in range(2, 108) if _fits(_home_of(n), as_root=as_root))
    with pytest.raises(Invalid) as refused:
        check_length(_home_of(fitting + 1), as_root=as_root)
    assert refused.value.reason == "HOME_PATH_TOO_LONG"
    assert refused.value.metadata["room_bytes"] == str(fitting)
    assert refused.value.metadata["length_bytes"] == str(SOCKET_PATH_BYTES_MAX + 1)


def _fits(home: Home, *, as_root: bool) -> bool:
    try:
        check_length(home, as_root=as_root)
    except Invalid:
        return False
    return True


def test_bytes_count_not_letters() -> None:
    assert _fits(_home_of(60), as_root=True)
    assert not _fits(Home(Path("/" + "ü" * 59)), as_root=True)


def test_a_newer_home_is_refused_and_an_older_one_is_to_be_migrated() -> None:
    home = Home(Path("/h"))
    assert not check_format(home, FORMAT)
    assert check_format(home, FORMAT - 1)
    with pytest.raises(Invalid) as refused:
        check_format(home, FORMAT + 1)
    assert refused.value.reason == "HOME_NEWER"


def test_surroundings_have_the_promised_defaults() -> None:
    here = surroundings({"HOME": "/home/u"}, folder=Path("/work"))
    assert here.home.path == Path("/home/u/.local/share/stead")
    assert here.token_file == here.home.path / "admin.token"
    assert here.endpoint == ""


def test_relative_paths_count_from_where_the_command_is_called() -> None:
    here = surroundings({"STEAD_HOME": "h", "STEAD_TOKEN_FILE": "t"}, folder=Path("/work"))
    assert here.home.path == Path("/work/h")
    assert here.token_file == Path("/work/t")
