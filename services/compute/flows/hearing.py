"""Whether the bus brings a host what is said to it. Source: MECHANICS D5."""

import asyncio
import contextlib


class Hearing:
    """When the bus last brought this host its own words; silent after `silent_s` without."""

    def __init__(self, silent_s: float) -> None:
        self._silent_s = silent_s
        self._heard_at_s: float | None = None
        self._told_silent = False
        self._again = asyncio.Event()

    def hear(self) -> None:
        """Something came. Ends a pause where the control plane was told of silence."""
        self._heard_at_s = _now_s()
        if self._told_silent:
            self._again.set()

    def is_silent(self) -> bool:
        """What to tell the control plane now."""
        now_s = _now_s()
        if self._heard_at_s is None:
            # Nothing can have come back before the first look.
            self._heard_at_s = now_s
        self._told_silent = now_s - self._heard_at_s > self._silent_s
        self._again.clear()
        return self._told_silent

    async def pause(self, most_s: float) -> None:
        """Waits until the next look is due: at once when the bus is heard again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._again.wait()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
