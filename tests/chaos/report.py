"""The figures of a run: `build/chaos.json` for programs, `build/chaos.md` for people. Owns what
counts as enough.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.nemesis import Done
from tests.chaos.plan import TARGETS
from tests.checkers.history import Ending, History

OPERATIONS_A_SECOND_MIN = 5.0
FAULT_EVERY_S_MAX = 5.0
RECOVERY_S_MAX = 30.0
# A service that answers nobody for longer than this is down.
SILENCE_S = 1.0


@dataclass(slots=True)
class Run:
    """Everything that a run has left. Times are Unix seconds."""

    calm_s: float
    faults_s: float = 0.0
    ended_s: float = 0.0
    healed_s: float = 0.0
    settled_s: float = 0.0
    began: tuple[int, float] = (0, 0.0)
    done: list[Done] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    times: dict[str, tuple[float, float]] = field(default_factory=dict)
    history: History = field(default_factory=History)
    watch_events: int = 0
    real_guests: int = 0
    violations: list[str] = field(default_factory=list)
    # How far Unix time is ahead of the monotonic clock.
    offset_s: float = 0.0

    @property
    def under_faults_s(self) -> float:
        """How long it was broken."""
        return self.ended_s - self.faults_s

    def operations(self) -> set[str]:
        """What clients were promised while it was broken."""
        return {
            call.operation_id
            for call in self.history.calls
            if call.operation_id and call.ended_s + self.offset_s >= self.faults_s
        }


def recoveries(run: Run) -> list[float]:
    """How long after the healing, or after its acceptance where that came later, each operation
    ended that was under way then: those of the real host apart.
    """
    real = {str(i["id"]) for i in run.history.dump.instances if i["project_id"] == "real"}
    apart = {str(o["id"]) for o in run.history.dump.operations if o["resource_id"] in real}
    return sorted(
        ended_s - max(run.healed_s, made_s)
        for name, (made_s, ended_s) in run.times.items()
        if name not in apart and ended_s > run.healed_s
    )


def shortfalls(run: Run) -> list[str]:
    """Why the run does not count, however well it went."""
    found = []
    seconds = run.under_faults_s
    if len(run.operations()) < OPERATIONS_A_SECOND_MIN * seconds:
        found.append(f"only {len(run.operations())} operations in {seconds:.0f} s")
    if len(run.done) * FAULT_EVERY_S_MAX < seconds:
        found.append(f"only {len(run.done)} faults in {seconds:.0f} s")
    unhit = set(TARGETS) - {done.fault.target for done in run.done}
    if unhit:
        found.append(f"never hit: {', '.join(sorted(unhit))}")
    if not run.real_guests:
        found.append("no real guest")
    late = [one for one in recoveries(run) if one > RECOVERY_S_MAX]
    if late:
        found.append(f"{len(late)} operations took up to {max(late):.1f} s after the healing")
    return found


def figures(run: Run) -> dict[str, object]:
    """What build/chaos.json has."""
    recovered = recoveries(run) or [0.0]
    counted = Counter(done.fault.target for done in run.done)
    return {
        "seed": run.began[0],
        "minutes": run.began[1],
        "operations": len(run.operations()),
        "faults": len(run.done),
        "faults_by_target": {target: counted[target] for target in TARGETS},
        "watch_events": run.watch_events,
        "real_guests": run.real_guests,
        "violations": len(run.violations),
        "recovery_s": {
            "p50": round(statistics.median(recovered), 2),
            "max": round(recovered[-1], 2),
        },
    }


def downtime_s(run: Run) -> float:
    """How long no client had any answer, silences of up to a second not counted."""
    answered = sorted(
        call.ended_s + run.offset_s
        for call in run.history.calls
        if call.ending is not Ending.UNKNOWN
    )
    moments = [run.faults_s, *(s for s in answered if run.faults_s < s < run.healed_s)]
    gaps = [b - a for a, b in zip(moments, [*moments[1:], run.healed_s], strict=True)]
    return sum(gap for gap in gaps if gap > SILENCE_S)


def repairs_s(run: Run) -> list[float]:
    """For each fault how long it took until something asked for after it was done."""
    times = sorted((made_s, ended_s) for made_s, ended_s in run.times.values() if ended_s)
    found = []
    for done in run.done:
        began_s = done.began_s + run.offset_s
        ends = [ended_s for made_s, ended_s in times if made_s >= began_s]
        if ends:
            found.append(min(ends) - began_s)
    return found


def durations_s(run: Run, since_s: float, until_s: float) -> list[float]:
    """How long operations took that were accepted within a stretch, those of real guests apart."""
    real = {str(i["id"]) for i in run.history.dump.instances if i["project_id"] == "real"}
    apart = {str(o["id"]) for o in run.history.dump.operations if o["resource_id"] in real}
    return [
        ended_s - made_s
        for name, (made_s, ended_s) in run.times.items()
        if ended_s and since_s <= made_s < until_s and name not in apart
    ]


def metrics_of(run: Run) -> dict[str, str]:
    """OpenStack's four metrics, and the recovery.

    Source: performance-docs, test plans, reliability, version 2.
    """
    calm = durations_s(run, run.calm_s, run.faults_s) or [0.0]
    rough = durations_s(run, run.faults_s, run.healed_s) or [0.0]
    calm_s, rough_s = statistics.mean(calm), statistics.mean(rough)
    repaired = repairs_s(run) or [0.0]
    return {
        "service downtime: no client had any answer": (
            f"{downtime_s(run):.1f} s of {run.healed_s - run.faults_s:.0f} s"
        ),
        "MTTR: from a fault to the end of something asked for after it": (
            f"{statistics.mean(repaired):.2f} s (most {max(repaired):.2f} s)"
        ),
        "absolute degradation of an operation": (
            f"{rough_s - calm_s:+.2f} s ({calm_s:.2f} s before, {rough_s:.2f} s under faults)"
        ),
        "relative degradation": f"{rough_s / calm_s if calm_s else 0:.1f} times",
        "after the last fault was healed: p50, most": str(figures(run)["recovery_s"]),
    }


def page(run: Run) -> str:
    """The report."""
    told = figures(run)
    endings = Counter(call.ending.value for call in run.history.calls)
    reasons = Counter(call.reason for call in run.history.calls if call.reason)
    kinds = Counter(f"{d.fault.target} {d.fault.kind} {d.fault.part}".strip() for d in run.done)
    headline = (
        f"{told['operations']} operations under {len(run.done)} faults in "
        f"{run.under_faults_s:.0f} s, {run.watch_events} events watched, "
        f"{run.real_guests} real guests, {len(run.violations)} violations."
    )
    lines = [
        f"# Chaos: seed {run.began[0]}, {run.began[1]:g} minutes",
        "",
        headline,
        "",
        "| metric (OpenStack's reliability plan) | here |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in metrics_of(run).items()),
        "",
        f"Calls: {dict(endings)}; reasons: {dict(reasons.most_common(12))}.",
        "",
        "| fault | times |",
        "| --- | --- |",
        *(f"| {kind} | {count} |" for kind, count in sorted(kinds.items())),
        "",
        *(f"- fault that did not come about: {missed}" for missed in run.missed),
        *(f"- SHORT: {text}" for text in shortfalls(run)),
        *(f"- VIOLATION: {text}" for text in run.violations),
    ]
    return "\n".join(lines) + "\n"


def write(run: Run, build: Path) -> int:
    """Writes both, says how it went; the exit code."""
    build.mkdir(exist_ok=True)
    (build / "chaos.json").write_text(json.dumps(figures(run), indent=2) + "\n")
    (build / "chaos.md").write_text(page(run))
    print(page(run), flush=True)
    return int(bool(run.violations or shortfalls(run)))
