"""Images on real files: fetched once, verified when in doubt, fetched again when corrupt."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.compute.edges.image_cache import ImageCache
from services.compute.flows.fetch_image import ImageFetcher
from services.compute.flows.ports import StepFailed
from services.compute.logic.wanted import Image
from services.domain.errors import NotFound, Unavailable
from services.domain.kinds import Architecture, ImageKind

ROOT = Path(__file__).parents[3]
CONTENT = bytes(range(256)) * 4096
IMAGE = Image(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), ImageKind.RAW, Architecture.X86_64)


class Store:
    """Blobs in memory, and what was asked of them."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.contents = [content]
        self.offsets: list[int] = []
        self.break_at: int | None = None

    async def read_blob(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        self.offsets.append(offset)
        content = self.contents.pop(0) if len(self.contents) > 1 else self.contents[0]
        for start in range(offset, len(content), 65_536):
            await asyncio.sleep(0)
            if self.break_at is not None and start >= self.break_at:
                self.break_at = None
                raise Unavailable("STORE_AWAY", "broken off by the test")
            yield content[start : start + 65_536]


async def fetch(fetcher: ImageFetcher, store: Store) -> Path:
    landed = asyncio.Event()
    async with fetcher.join(IMAGE, store.read_blob, on_landed=landed.set) as flight:
        async with asyncio.timeout(60):
            await landed.wait()
        return flight.landed.result()


def fetcher_of(tmp_path: Path) -> ImageFetcher:
    return ImageFetcher(ImageCache(tmp_path / "cache"))


async def test_two_creates_of_an_uncached_image_fetch_it_once(tmp_path):
    store, fetcher = Store(), fetcher_of(tmp_path)
    paths = await asyncio.gather(*(fetch(fetcher, store) for _ in range(50)))
    assert set(paths) == {tmp_path / "cache" / IMAGE.digest}
    assert paths[0].read_bytes() == CONTENT
    assert store.offsets == [0]
    await fetch(fetcher, store)
    assert store.offsets == [0]


async def test_a_restarted_agent_uses_what_is_cached(tmp_path):
    store = Store()
    await fetch(fetcher_of(tmp_path), store)
    await fetch(fetcher_of(tmp_path), store)
    assert store.offsets == [0]


async def test_a_corrupt_file_is_found_after_a_restart_even_with_its_old_times(tmp_path):
    store = Store()
    path = await fetch(fetcher_of(tmp_path), store)
    times = path.stat()
    corrupt = bytearray(CONTENT)
    corrupt[1000] ^= 1
    path.write_bytes(corrupt)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    path = await fetch(fetcher_of(tmp_path), store)
    assert path.read_bytes() == CONTENT
    assert store.offsets == [0, 0]


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT[:-1] + b"x"])
async def test_a_file_that_changed_is_found_without_a_restart(tmp_path, content):
    store, fetcher = Store(), fetcher_of(tmp_path)
    path = await fetch(fetcher, store)
    path.write_bytes(content)
    path = await fetch(fetcher, store)
    assert path.read_bytes() == CONTENT
    assert store.offsets == [0, 0]


async def test_a_transfer_that_breaks_off_is_resumed_also_after_a_restart(tmp_path):
    store = Store()
    store.break_at = 300_000
    with pytest.raises(Unavailable):
        await fetch(fetcher_of(tmp_path), store)
    path = await fetch(fetcher_of(tmp_path), store)
    assert path.read_bytes() == CONTENT
    assert store.offsets[0] == 0
    assert 0 < store.offsets[1] <= 327_680
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [IMAGE.digest]


async def test_what_is_left_of_a_transfer_and_corrupt_is_dropped_and_fetched_anew(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"{IMAGE.digest}.part").write_bytes(b"x" * 1000)
    store = Store()
    path = await fetch(fetcher_of(tmp_path), store)
    assert path.read_bytes() == CONTENT
    assert store.offsets == [1000, 0]


async def test_bytes_that_arrive_corrupt_are_fetched_again(tmp_path):
    store = Store()
    store.contents = [CONTENT[:-1] + b"x", CONTENT + b"x", CONTENT]
    path = await fetch(fetcher_of(tmp_path), store)
    assert path.read_bytes() == CONTENT


async def test_bytes_that_stay_corrupt_fail_and_leave_nothing(tmp_path):
    with pytest.raises(StepFailed, match="does not give the bytes") as failed:
        await fetch(fetcher_of(tmp_path), Store(CONTENT[:-1]))
    assert failed.value.reason == "IMAGE_CORRUPT"
    assert list((tmp_path / "cache").iterdir()) == []


class EmptyStore(Store):
    """Has nothing."""

    async def read_blob(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        raise NotFound("BLOB_NOT_FOUND", "no such blob")
        yield b""


async def test_an_image_that_the_store_does_not_have_fails(tmp_path):
    with pytest.raises(StepFailed) as failed:
        await fetch(fetcher_of(tmp_path), EmptyStore())
    assert failed.value.reason == "BLOB_NOT_FOUND"


async def test_the_last_who_leaves_ends_the_transfer_and_the_next_resumes_it(tmp_path):
    store, fetcher = Store(), fetcher_of(tmp_path)
    async with fetcher.join(IMAGE, store.read_blob, on_landed=lambda: None) as flight:
        async with asyncio.timeout(60):
            while flight.received_bytes == 0:  # noqa: ASYNC110  # nobody tells of progress
                await asyncio.sleep(0)
    assert flight.landed.done()
    assert (await fetch(fetcher, store)).read_bytes() == CONTENT


async def test_a_transfer_goes_by_the_road_of_one_who_still_waits(tmp_path):
    first, second, fetcher = Store(), Store(), fetcher_of(tmp_path)
    first.contents = [CONTENT[:-1] + b"x", b""]
    landed = asyncio.Event()
    leaving = fetcher.join(IMAGE, first.read_blob, on_landed=lambda: None)
    flight = await leaving.__aenter__()
    async with fetcher.join(IMAGE, second.read_blob, on_landed=landed.set):
        async with asyncio.timeout(60):
            while flight.received_bytes == 0:  # noqa: ASYNC110  # nobody tells of progress
                await asyncio.sleep(0)
        await leaving.__aexit__(None, None, None)
        async with asyncio.timeout(60):
            await landed.wait()
        assert flight.landed.result().read_bytes() == CONTENT
    assert (first.offsets, second.offsets) == ([0], [0])


NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
FULL = """
import asyncio, sys
from pathlib import Path
from tests.integration.compute.test_image_cache import Store, StepFailed, fetch, fetcher_of
try:
    asyncio.run(fetch(fetcher_of(Path(sys.argv[1])), Store()))
except StepFailed as error:
    print(error.reason, len(list((Path(sys.argv[1]) / "cache").iterdir())))
"""


def test_a_full_disk_fails_the_build_and_leaves_nothing(tmp_path):
    script = 'mount -t tmpfs -o size=256k none "$1" && exec "$2" -c "$3" "$1"'
    ended = subprocess.run(
        [*NAMESPACE, "sh", "-c", script, "sh", str(tmp_path), sys.executable, FULL],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/generated"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout.strip() == "STORAGE_FULL 0", ended.stderr
