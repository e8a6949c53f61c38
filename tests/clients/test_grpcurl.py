"""Goal: docs/grpcurl.md is true: each command, run again against a cloud, prints what it shows but
for what is new each time. grpcurl and `buf curl` know nothing but what reflection tells them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import proto
from tests.clients.strangers import GO_AT_LEAST, ROOM, need, run
from tests.clients.transcript import Step, rerun, shape, steps_of
from tests.clouds import Cloud

PAGE = (Path(__file__).parents[2] / "docs" / "grpcurl.md").read_text()
VERSION = "v1.9.4"
GRPCURL = ROOM / "bin" / VERSION / "grpcurl"


def compared(of: Cloud, title: str, folder: Path) -> None:
    """Runs the section's commands and compares."""
    image = folder / "stead.binpb"
    proto.write_image(image, files=proto.public())
    paths = [str(GRPCURL.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    cache = {"BUF_CACHE_DIR": str(folder / "buf-cache")}
    environment = of.environment | cache | {"PATH": os.pathsep.join(paths)}
    told = {"localhost:8774": of.endpoint, "build/stead.binpb": str(image)}
    shown = steps_of(PAGE, title)
    assert len(shown) > 15
    for before, now in zip(shown, rerun(shown, folder, environment, told), strict=True):
        assert shape(now.printed) == shape(before.printed), f"{before.command}\n{now.printed}"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_transcript_of_grpcurl_is_true(shop: Cloud, tmp_path: Path) -> None:
    need("go", GO_AT_LEAST)
    assert f"grpcurl@{VERSION}" in PAGE
    if not GRPCURL.exists():
        GRPCURL.parent.mkdir(parents=True, exist_ok=True)
        install = ["go", "install", f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{VERSION}"]
        ended = run(["env", f"GOBIN={GRPCURL.parent}", *install], ROOM)
        assert ended.code == 0, ended.complained
    compared(shop, "grpcurl", tmp_path)


def test_the_transcript_of_buf_curl_is_true(shop: Cloud, tmp_path: Path) -> None:
    compared(shop, "buf curl", tmp_path)


def test_a_shape_keeps_words_and_drops_what_is_new_each_time() -> None:
    one = '{"id": "01a20524-be60-704c-8867-07124764d26f", "revision": "52", "state": "ACTIVE"}'
    two = one.replace("01a2", "77ff").replace('"52"', '"1234"')
    assert shape(one) == shape(two)
    assert shape(one) != shape(two.replace("ACTIVE", "ERROR"))
    assert shape(one) != shape(two.replace('"revision"', '"version"'))


def test_a_command_is_told_from_what_it_printed() -> None:
    page = "# A\n\n## here\n\n```console\n$ one \\\n    more\nprinted\n$ two\n```\n\n## there\n"
    assert steps_of(page, "here") == [Step("one \\\n    more", "printed"), Step("two", "")]
