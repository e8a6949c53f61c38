"""A compute that kills itself in front of a step of its driver, or right after it.

`python -m tests.integration.compute.dying METHOD MOMENT` is the real process with one thing around
one method of the fake driver. MOMENT is before or after.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from services.compute.__main__ import main
from services.compute.edges.drivers.fake import FakeDriver


def dies(moment: str) -> None:
    """As by kill -9, if it is this moment's turn."""
    if moment == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)


def arm(name: str) -> None:
    """Puts the death around the method."""
    real = getattr(FakeDriver, name)

    async def method(*args: Any, **named: Any) -> Any:
        dies("before")
        answer = await real(*args, **named)
        dies("after")
        return answer

    setattr(FakeDriver, name, method)


if __name__ == "__main__":
    arm(sys.argv[1])
    main()
