"""Waiting for an instance: which states can be waited for, and when the wait is over. Takes the
JSON form of instances.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.cli.logic.refusal import Exit, Refusal
from services.cli.logic.words import word
from services.domain.errors import Invalid

ENDS = frozenset({"ERROR", "DELETED"})


def check_state(text: str, states: Sequence[str], *, flag: str) -> str:
    """The state that a person named, as one word; empty for none. Raises Invalid."""
    known = [word(name) for name in states]
    wanted = word(text.upper())
    if wanted and wanted not in known:
        words = f'no state "{text}"; there are {", ".join(known)}'
        raise Invalid("INVALID_FIELD", words, field=flag)
    return wanted


def is_there(instance: Mapping[str, Any], state: str) -> bool:
    """Whether it is in the state; without one, whether nothing is under way. Raises Refusal
    (STATE_UNREACHABLE) if that cannot come any more.
    """
    now = word(instance["state"])
    if now == state:
        return True
    if now in ENDS and (state or now == "ERROR"):
        raise Refusal(
            "FAILED_PRECONDITION",
            "STATE_UNREACHABLE",
            f"{instance['name']} is {now}. {instance['fault']}".strip(),
            exit_code=Exit.FAILED,
        )
    return not state and (word(instance["task"]) == "NONE" or now in ENDS)
