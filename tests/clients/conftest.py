"""A cloud of fake hosts behind two replicas of api, for programs that know the contract alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clouds import Cloud, client, cloud, kernel_tar


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """With a flavor `tiny` and a public image `guest`."""
    guest = kernel_tar(tmp_path_factory.mktemp("shop") / "guest.tar")
    with cloud("--driver", "fake", "--fake-hosts", "3", "--api-replicas", "2") as made:
        with client(made) as admin:
            admin.flavor("tiny")
        made.run("image", "import", str(guest), "--name", "guest", "--public")
        yield made
