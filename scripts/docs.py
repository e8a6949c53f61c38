"""Owns the pages of docs/ that are made from code: errors.md, actions.md and the table of steps in
operations.md.

`make proto` writes them with the generated code; `make check ONLY=docs` tells when they are older
than the code that they are made from.
"""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The checkout beside this script is meant, whichever one is installed.
sys.path.insert(0, str(ROOT))

# The imports stand after the path that they are found by.
from services.conductor.logic.step_table import (  # noqa: E402  # as said
    AT_ONCE,
    ROWS,
    USUAL_DEADLINES,
    Undo,
    accepted_row,
)
from services.domain.instance import (  # noqa: E402  # as said
    ASKED,
    STANDINGS,
    Action,
    Event,
    Illegal,
    Standing,
    State,
    Task,
    after,
)
from services.domain.operation import (  # noqa: E402  # as said
    OperationAction,
    Phase,
    is_cancellable,
)
from services.domain.reason import Met, Reason  # noqa: E402  # as said
from services.domain.reasons import ALL  # noqa: E402  # as said

MADE = "<!-- Made by scripts/docs.py; do not edit. -->"
ABOUT: dict[Met, str] = {
    Met.CALL: "Every refused call carries google.rpc.ErrorInfo with domain `stead` and one of "
    "these as its reason.\nA reason is never used again for something else.",
    Met.OPERATION: "A call that begins long work is answered at once; how the work ended stands "
    "in `Operation.error`.",
    Met.HOST: "They stand as `cause` in the metadata of BUILD_FAILED, as the reason of a failed "
    "start, stop or\nreboot (INTERNAL), or in a host's log.",
    Met.INSIDE: "Callers do not meet these; logs of the services do.",
    Met.COMMAND: "The command shows the reasons above as they are, and these of its own.",
}


def errors_page() -> str:
    """docs/errors.md: every registered reason, by who meets it, in the order of their names."""
    parts = (f"## {met.value}\n\n{ABOUT[met]}\n\n{_reasons(met)}" for met in Met)
    return "\n".join((f"# Errors\n\n{MADE}\n", *parts))


def _reasons(met: Met) -> str:
    rows = [_row(reason) for reason in sorted(ALL, key=lambda r: r.name) if reason.met is met]
    return "| reason | code | meaning | what to do |\n| --- | --- | --- | --- |\n" + "".join(rows)


def _row(reason: Reason) -> str:
    codes = ", ".join(code.value for code in reason.codes)
    return f"| `{reason.name}` | {codes} | {reason.meaning} | {reason.remedy} |\n"


def actions_page() -> str:
    """docs/actions.md: what becomes of each action and each event in every standing."""
    return f"{_ACTIONS_HEAD}\n{_asked()}\n{_EVENTS_HEAD}\n{_happening()}\n{_cancellable()}"


_ACTIONS_HEAD = f"""# What can be done to an instance, and when

{MADE}

An instance has a `state` and a `task` (what is being done to it). Each cell says where an action
leads at once, or with which reason it is refused (FAILED_PRECONDITION; `blocked_actions` of the
instance says the same). Every combination that is not a row here does not occur. Of an instance
that is DELETED nothing can be asked any more: whoever does is told INSTANCE_NOT_FOUND (NOT_FOUND).

## Actions
"""
_EVENTS_HEAD = """## Events

What hosts, the scheduler and the conductor bring about. What is not here does not happen in that
standing, or changes nothing.
"""


def _name(standing: Standing) -> str:
    doing = "" if standing.task is Task.NONE else f", {standing.task.name}"
    return f"{standing.state.name}{doing}"


def _asked() -> str:
    heads = [action.name.capitalize().replace("_", " ") for action in Action]
    lines = [
        f"| state | task | {' | '.join(heads)} | why not |",
        f"| --- | --- |{' --- |' * (len(heads) + 1)}",
    ]
    for standing in STANDINGS:
        answers = [after(standing, ASKED[action]) for action in Action]
        why = dict.fromkeys(a.message for a in answers if isinstance(a, Illegal))
        task = "" if standing.task is Task.NONE else standing.task.name
        cells = [_cell(standing, answer) for answer in answers]
        lines.append(f"| {standing.state.name} | {task} | {' | '.join(cells)} | {'; '.join(why)} |")
    return "\n".join(lines) + "\n"


def _cell(standing: Standing, following: Standing | Illegal) -> str:
    if isinstance(following, Illegal):
        return f"`{following.reason}`"
    return "as it is" if following == standing else f"→ {_name(following)}"


def _happening() -> str:
    lines = ["| state | event | then |", "| --- | --- | --- |"]
    asked = set(ASKED.values())
    for standing in STANDINGS:
        for event in Event:
            following = after(standing, event)
            if event not in asked and not isinstance(following, Illegal):
                lines.append(f"| {_name(standing)} | {event.value} | {_name(following)} |")
    return "\n".join(lines) + "\n"


def _cancellable() -> str:
    cells = [
        f"{action.name} while {phase.name}"
        for action in OperationAction
        for phase in Phase
        if is_cancellable(action, phase)
    ]
    return (
        "## CancelOperation\n\n"
        f"Accepted for: {'; '.join(cells)}; the instance is then {State.DELETED.name}.\n"
        "Everything else is refused with `OPERATION_NOT_CANCELLABLE`, and nothing changes.\n"
    )


STEPS_BEGIN = "<!-- Made by scripts/docs.py up to the end of the steps; do not edit. -->\n"
STEPS_END = "<!-- The end of the steps. -->\n"


def operations_page() -> str:
    """docs/operations.md with the table of steps as it is; all else there is written by hand."""
    page = (ROOT / "docs/operations.md").read_text()
    before, _, rest = page.partition(STEPS_BEGIN)
    _, _, behind = rest.partition(STEPS_END)
    return f"{before}{STEPS_BEGIN}{_steps()}{STEPS_END}{behind}" if rest else page


def _steps() -> str:
    heads = "operation", "phase", "when", "step", "what it does", "undo", "deadline", "looks"
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in ROWS:
        undo = "none needed" if row.undo is Undo.NONE else row.undo.value
        limit, pace = row.limit.value, row.pace
        most = "" if pace.most_s == pace.first_s else f" to {pace.most_s:g} s"
        cells = (
            row.action.name, row.phase.name, row.when.value, row.step.value, row.does,
            f"{undo}: {row.undone}",
            f"`{limit}`, {USUAL_DEADLINES.of(row.action, row.phase):g} s",
            f"{pace.first_s:g} s{most}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    names = ", ".join(action.name for action in sorted(AT_ONCE))
    one = accepted_row(min(AT_ONCE))
    lines.append(f"\n{names}: {one.does}; {one.undone}.\n")
    return "\n".join(lines)


PAGES = {
    "docs/errors.md": errors_page,
    "docs/actions.md": actions_page,
    "docs/operations.md": operations_page,
}


def stale() -> list[str]:
    """The pages that are not what they would be now."""
    return [
        name
        for name, page in PAGES.items()
        if not (ROOT / name).exists() or (ROOT / name).read_text() != page()
    ]


def main() -> int:
    """Writes what is stale; with `--check` only names it, and fails if there is any."""
    found = stale()
    if sys.argv[1:] == ["--check"]:
        print("\n".join(["run `make proto`; these differ:", *found]) if found else "")
        return bool(found)
    for name in found:
        (ROOT / name).write_text(PAGES[name]())
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
