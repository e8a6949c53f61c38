"""A progress bar on standard error where a person watches, nothing elsewhere."""

import sys
from typing import Any, Self


class Bar:
    """Bytes done of bytes to do, and the percentage."""

    def __init__(self, what: str, total_bytes: int) -> None:
        self._what = what
        self._total_bytes = total_bytes
        self._rich: Any = None
        self._line: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

            columns = (
                "[progress.description]{task.description}",
                BarColumn(),
                "{task.percentage:>3.0f}%",
                DownloadColumn(),
            )
            self._rich = Progress(
                *columns, TransferSpeedColumn(), console=Console(stderr=True), transient=True
            )
            self._line = self._rich.add_task(self._what, total=self._total_bytes)
            self._rich.start()
        return self

    def at(self, done_bytes: int) -> None:
        """So far."""
        if self._rich is not None:
            self._rich.update(self._line, completed=done_bytes)

    def __exit__(self, *_: object) -> None:
        if self._rich is not None:
            self._rich.stop()
