"""A conductor that kills itself in front of a step for one instance, or right after it.

`python -m tests.integration.conductor.dying STEP MOMENT INSTANCE_ID` is the real process with one
thing around three of its methods. STEP is a name of `StepKind`, MOMENT before or after.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from services.conductor.__main__ import main
from services.conductor.edges.bus import NatsBus
from services.conductor.flows.advance import Advancer
from services.conductor.logic.step_table import StepKind
from services.conductor.logic.steps import GiveUp, LetGo, MoveOn
from services.runtime.serve import run

ENDS = {StepKind.LET_GO: LetGo, StepKind.MOVE_ON: MoveOn, StepKind.GIVE_UP: GiveUp}
Method = Callable[..., Awaitable[Any]]


def dies(moment: str) -> None:
    """As by kill -9, if it is this moment's turn."""
    if moment == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)


def around(real: Method, concerns: Callable[..., bool]) -> Method:
    """The same method, at which the process dies where it concerns the instance."""

    async def method(*args: Any, **named: Any) -> Any:
        if not concerns(*args):
            return await real(*args, **named)
        dies("before")
        answer = await real(*args, **named)
        await flushed(args[0])
        dies("after")
        return answer

    return method


async def flushed(owner: Any) -> None:
    """What was published has left the process."""
    if isinstance(owner, NatsBus):
        await owner._bus._client.flush()


def names(steps: Iterable[Any]) -> bool:
    """Whether one of the steps is about the instance."""
    return any(step.instance.id == sys.argv[3] for step in steps)


def arm(step: StepKind) -> None:
    """Puts the death around what takes such steps."""
    owner: Any = NatsBus
    if step is StepKind.PLACE:
        owner.place = around(owner.place, lambda _, places, *rest: names(places))
    elif step is StepKind.COMMAND:
        owner.command = around(owner.command, lambda _, host, n, commands: names(commands))
    else:
        owner = Advancer
        owner._end = around(
            owner._end,
            lambda _, end: isinstance(end, ENDS[step]) and end.situation.instance.id == sys.argv[3],
        )


if __name__ == "__main__":
    arm(StepKind[sys.argv[1]])
    run("conductor", main)
