"""How values read: enums as one word, counts, and text that cannot move a terminal's cursor."""

import re

# CSI sequences, OSC strings, and the other two-byte ones. Source: ECMA-48, 5.4 and 8.3.
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])"
)
_PREFIXES = (
    "INSTANCE_STATE_",
    "INSTANCE_TASK_",
    "INSTANCE_POWER_",
    "INSTANCE_ACTION_",
    "OPERATION_ACTION_",
    "OPERATION_STATE_",
    "OPERATION_PHASE_",
    "IMAGE_KIND_",
    "IMAGE_STATE_",
    "IMAGE_VISIBILITY_",
    "ARCHITECTURE_",
    "HOST_STATE_",
    "HYPERVISOR_KIND_",
    "DIFFERENCE_KIND_",
)


def word(name: str) -> str:
    """ACTIVE for INSTANCE_STATE_ACTIVE."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def counted(number: int, noun: str) -> str:
    """`1 guest`, `2 guests`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def clean(text: str) -> str:
    """The text without what could move a terminal's cursor: shown, never obeyed."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def clean_lines(text: str) -> str:
    """The same for many lines: line ends and tabs stay, carriage returns go."""
    kept = text.replace("\r", "")
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in kept
    )


def without_control(text: str) -> str:
    """A console's words without what its guest meant for a terminal: colours, cursors, titles."""
    return clean_lines(_SEQUENCE.sub("", text))


def cut(text: str, width: int) -> str:
    """At most `width` letters; what was cut is told by an ellipsis."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "\N{HORIZONTAL ELLIPSIS}"
