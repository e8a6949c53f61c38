"""How many decisions a second of CPU gives, by batch size and by number of hosts.

Method: one process, no bus; CPU time, so that a busy machine changes little; all cases take turns
in every round, and what is compared is their ratio within this run, not figures of different
machines. Writes build/bench-scheduler.json.
"""

import json
import statistics
import time
from pathlib import Path

from services.domain.kinds import Architecture, Hypervisor, ImageKind
from services.domain.resources import Resources
from services.scheduler.logic.choose import choose
from services.scheduler.logic.fleet import Fleet, HostRow
from services.scheduler.logic.request import Request, Shape
from services.scheduler.logic.weighers import Weights

ROUNDS = 15
HOSTS = (100, 1_000, 10_000)
BATCHES = (1, 10, 100, 1_000)
SHAPES = 4
RESULT = Path(__file__).parents[2] / "build" / "bench-scheduler.json"


def fleet_of(hosts: int) -> Fleet:
    """Hosts that are used unevenly, so that scores differ."""
    fleet = Fleet()
    rows = [
        HostRow(
            id=f"host-{n}",
            revision=1,
            up=True,
            enabled=True,
            target=Resources(256, 512 * 1024, 4_000),
            used=Resources(n * 7 % 128, n * 13 % 256 * 1024, n * 3 % 1_000),
            claims=0,
            architectures=(Architecture.X86_64,),
            hypervisor=Hypervisor.KVM,
            image_kinds=tuple(ImageKind),
        )
        for n in range(hosts)
    ]
    fleet.host_replace_all(rows, 1)
    return fleet


def batch_of(size: int) -> list[Request]:
    """Requests of a few shapes, mixed."""
    shapes = [
        Shape(Resources(n, n * 1024, 10), Architecture.X86_64, ImageKind.QCOW2, frozenset())
        for n in range(1, SHAPES + 1)
    ]
    return [Request(f"instance-{n}", 1, 0, shapes[n % SHAPES]) for n in range(size)]


def seconds_for(fleet: Fleet, batch: list[Request]) -> float:
    """CPU seconds of one choice; its promises are taken back."""
    begin_s = time.process_time()
    outcomes = choose(fleet, batch, weights=Weights(), now_s=0)
    took_s = time.process_time() - begin_s
    assert len(outcomes) == len(batch)
    fleet.debit_expire(float("inf"))
    return took_s


def measure() -> dict[str, dict[str, float]]:
    """Decisions per CPU second by hosts and batch, the median of all rounds."""
    fleets = {hosts: fleet_of(hosts) for hosts in HOSTS}
    batches = {size: batch_of(size) for size in BATCHES}
    took: dict[tuple[int, int], list[float]] = {(h, b): [] for h in HOSTS for b in BATCHES}
    for _ in range(ROUNDS):
        for (hosts, size), times_s in took.items():
            times_s.append(seconds_for(fleets[hosts], batches[size]))
    return {
        str(hosts): {str(b): b / statistics.median(took[hosts, b]) for b in BATCHES}
        for hosts in HOSTS
    }


def main() -> None:
    """Measures, prints and writes."""
    rates = measure()
    gains = {h: {b: r / rate["1"] for b, r in rate.items()} for h, rate in rates.items()}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({"decisions_per_cpu_s": rates, "gain_over_batch_of_one": gains}, indent=1)
    )
    for hosts, rate in rates.items():
        line = "  ".join(f"{b}: {r:,.0f}/s (x{gains[hosts][b]:.1f})" for b, r in rate.items())
        print(f"{hosts} hosts, batch of  {line}")


if __name__ == "__main__":
    main()
