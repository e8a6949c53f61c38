"""How many of something each project and all together may have open at once at this replica."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from services.domain.errors import NoCapacity


class Shares:
    """Counts what is open, by owner, which is a project."""

    def __init__(self, of_one: int, of_all: int, refusal: Callable[[], NoCapacity]) -> None:
        self._of_one = of_one
        self._of_all = of_all
        self._refusal = refusal
        self._open = 0
        self._of_owners: Counter[str] = Counter()

    @contextlib.contextmanager
    def one(self, owner: str) -> Iterator[None]:
        """One more for as long as the context lasts. Raises the refusal where there may not be."""
        if self._of_owners[owner] >= self._of_one or self._open >= self._of_all:
            raise self._refusal()
        self._open += 1
        self._of_owners[owner] += 1
        try:
            yield
        finally:
            self._open -= 1
            self._of_owners[owner] -= 1
            if not self._of_owners[owner]:
                del self._of_owners[owner]
