"""What the flows of compute need of the folder in which a machine keeps images."""

from pathlib import Path
from typing import Protocol

from services.compute.logic.wanted import Image


class Draft(Protocol):
    """An image on its way into the cache. `size_bytes` is how much of it is there."""

    size_bytes: int

    async def append(self, chunk: bytes) -> None:
        """Adds the next bytes. Raises StepFailed (STORAGE_FULL)."""
        ...

    async def finish(self) -> Path | None:
        """Puts the image in its place, or drops it and gives None if it is not as it should be."""
        ...

    async def close(self) -> None:
        """Lets go of the file; what is there is kept for a later draft."""
        ...


class ImageShelf(Protocol):
    """The images that a machine keeps, by digest."""

    def known(self, image: Image) -> Path | None:
        """The file, if it is known to be as it should be without reading it."""
        ...

    async def find(self, image: Image) -> Path | None:
        """The verified file, None if there is none; a corrupt one is dropped."""
        ...

    async def begin(self, image: Image) -> Draft:
        """Opens a draft that goes on where an interrupted one ended."""
        ...
