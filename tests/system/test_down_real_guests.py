"""`stead down` with guests under libvirt: they run on, are counted, and are found again."""

from __future__ import annotations

import pytest

from tests.clouds import client, cloud, eventually
from tests.hypervisors import guest_image
from tests.system.test_real_guests import ACTIVE, create, get, qemus


@pytest.mark.timeout(600)
def test_down_leaves_real_guests_running_counts_them_and_down_guests_ends_them() -> None:
    with cloud() as of:
        with client(of) as as_:
            flavor_id, image_id = as_.flavor(), as_.image(guest_image())
            made = create(as_, "web", flavor_id, image_id)
            eventually(lambda: get(as_, made).state == ACTIVE, "the guest is ACTIVE")
        before = qemus(of)
        assert len(before) == 1
        assert "1 guest keeps running" in of.run("down").stderr
        assert qemus(of) == before
        # Also a cloud that is down ends its guests in order, and nothing of it is left.
        assert "deleted 1 instance" in of.run("down", "--guests").stderr
        assert qemus(of) == {}
