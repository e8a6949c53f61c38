"""What the machine says: CPU time of every process of a cloud, and how samples are told.

Rates move with whatever else the machine does. CPU time moves less, yet by a third on a busy
machine, whose caches are others' too: compare runs that took turns.
"""

import json
import os
import resource
import statistics
from collections.abc import Sequence
from pathlib import Path

from services.cli.logic.home import Home
from tests.clouds import Cloud

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


class Meter:
    """CPU seconds of each service of a cloud, of their supervisor, and of this client."""

    def __init__(self, cloud: Cloud) -> None:
        rows = cloud.services()
        self._pids = {name: [int(row["pid"]) for row in rows[name]] for name in rows}
        state = json.loads(Home(cloud.home).state_file.read_text())
        self._supervisor = int(state["pid"])

    def read(self) -> dict[str, float]:
        """CPU seconds so far, by service and for `client`."""
        children = _children()
        read = {
            name: sum(_tree_s(pid, children) for pid in pids) for name, pids in self._pids.items()
        }
        own = resource.getrusage(resource.RUSAGE_SELF)
        return read | {
            "client": own.ru_utime + own.ru_stime,
            "supervisor": _cpu_s(self._supervisor),
        }

    def context_switches(self) -> dict[str, int]:
        """Voluntary context switches so far, by service: how often something woke it."""
        children = _children()
        return {
            name: sum(_switches(p) for pid in pids for p in _tree(pid, children))
            for name, pids in self._pids.items()
        }


def spent_ms(before: dict[str, float], after: dict[str, float], units: int) -> dict[str, float]:
    """CPU milliseconds for each of `units`, by who spent them; `cloud` is all but the client."""
    each = {name: (after[name] - before[name]) * 1000 / max(1, units) for name in after}
    cloud = sum(ms for name, ms in each.items() if name != "client")
    return {name: round(ms, 3) for name, ms in sorted(each.items())} | {"cloud": round(cloud, 3)}


def percentiles(samples_s: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the largest, in milliseconds."""
    ordered = sorted(samples_s)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    found = {"p50": statistics.median(ordered), "p99": p99, "max": ordered[-1]}
    return {name: round(value * 1000, 2) for name, value in found.items()}


def machine() -> dict[str, object]:
    """What was measured on, and how busy others kept it when this began."""
    names = [
        line.partition(":")[2].strip()
        for line in (PROC / "cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else "unknown",
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            fields = _stat(int(folder.name))
            if fields:
                found.setdefault(int(fields[1]), []).append(int(folder.name))
    return found


def _tree(pid: int, children: dict[int, list[int]]) -> list[int]:
    pids = [pid]
    for known in pids:
        pids += children.get(known, [])
    return pids


def _tree_s(pid: int, children: dict[int, list[int]]) -> float:
    # With both times of the children that each has buried.
    return sum(_cpu_s(known, buried=True) for known in _tree(pid, children))


def _cpu_s(pid: int, *, buried: bool = False) -> float:
    """utime and stime of one process; with `buried` also cutime and cstime."""
    return sum(int(field) for field in _stat(pid)[11 : 15 if buried else 13]) / TICKS


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none if it is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _switches(pid: int) -> int:
    total = 0
    for task in (PROC / str(pid) / "task").glob("*/status"):
        for line in task.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total
