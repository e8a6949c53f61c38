"""Where the libvirtd of a home is, before it is started."""

from pathlib import Path

import pytest

from services.compute.edges.libvirtd import SOCKET_PATH_BYTES_MAX, CannotStart, Place


def test_the_address_names_the_socket_in_the_home() -> None:
    root = Place(Path("/srv/a b/libvirt"), as_root=True)
    assert root.uri == "qemu+unix:///system?socket=/srv/a%20b/libvirt/run/libvirt-sock"
    user = Place(Path("/home/ann/libvirt"), as_root=False)
    assert user.uri == "qemu+unix:///session?socket=/home/ann/libvirt/run/libvirt/libvirt-sock"


def test_the_usual_home_of_a_user_is_short_enough() -> None:
    Place(Path("/home/someone-longer/.local/share/stead/libvirt"), as_root=False).check()


@pytest.mark.parametrize("as_root", [True, False])
def test_a_home_that_is_too_long_is_refused_with_the_length_that_would_do(as_root: bool) -> None:
    home = Path("/" + "h" * (SOCKET_PATH_BYTES_MAX + 20))
    with pytest.raises(CannotStart, match="at most") as refused:
        Place(home / "libvirt", as_root=as_root).check()
    room = int(str(refused.value).partition("at most ")[2].split()[0])
    Place(Path("/" + "h" * (room - 1)) / "libvirt", as_root=as_root).check()
    with pytest.raises(CannotStart):
        Place(Path("/" + "h" * room) / "libvirt", as_root=as_root).check()
