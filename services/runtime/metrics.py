"""The figures of a process, in the form that Prometheus reads.

Owns the names of what every service counts: calls by method and code (rate, errors, duration), the
rounds of its lanes, the process itself; and the figures that a service adds, read when somebody
asks. Counting is cheap and elsewhere: `telemetry`, `lane`, `tally`.
"""

import asyncio
import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from services.runtime import telemetry
from services.runtime.lane import Tally, lanes
from services.runtime.log import logger
from services.runtime.tally import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
READ_S = 2.0

# One value, or one per tuple of label values.
Reading = float | Mapping[tuple[str, ...], float]
Read = Callable[[], Reading | Awaitable[Reading]]


@dataclass(frozen=True, slots=True)
class _Figure:
    family: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    about: str
    labels: tuple[str, ...]
    read: Read


class Meters:
    """The figures of one service, and the page with everything that its process counts."""

    def __init__(self, service: str, *, read_s: float = READ_S) -> None:
        self._service = service
        self._read_s = read_s
        self._figures: list[_Figure] = []
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def gauge(self, name: str, about: str, read: Read, labels: tuple[str, ...] = ()) -> None:
        """Adds `stead_<name>`, read anew for each page; a reading that fails or takes longer than
        `read_s` is left out and logged.
        """
        self._figures.append(_Figure(GaugeMetricFamily, f"stead_{name}", about, labels, read))

    def counter(self, name: str, about: str, read: Read, labels: tuple[str, ...] = ()) -> None:
        """Adds `stead_<name>_total`, which never falls while the process lives; else as `gauge`."""
        self._figures.append(_Figure(CounterMetricFamily, f"stead_{name}", about, labels, read))

    async def page(self) -> bytes:
        """Everything as it is now, as text."""
        readings = await asyncio.gather(*(self._reading(figure) for figure in self._figures))
        families = [
            _family(figure, reading)
            for figure, reading in zip(self._figures, readings, strict=True)
            if reading is not None
        ]
        now = CollectorRegistry(auto_describe=False)
        now.register(_Families([_identity(self._service), *_calls(), *_rounds(), *families]))
        return generate_latest(self._registry) + generate_latest(now)

    async def _reading(self, figure: _Figure) -> Reading | None:
        try:
            async with asyncio.timeout(self._read_s):
                reading = figure.read()
                return await reading if inspect.isawaitable(reading) else reading
        except Exception as error:  # noqa: BLE001  # one figure that cannot be had must not hide the others
            logger().warning("figure not read", figure=figure.name, error=repr(error))
            return None


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _family(figure: _Figure, reading: Reading) -> Metric:
    family = figure.family(figure.name, figure.about, labels=figure.labels)
    if isinstance(reading, Mapping):
        for labels, value in reading.items():
            family.add_metric(labels, value)
    else:
        family.add_metric((), reading)
    return family


def _identity(service: str) -> Metric:
    family = InfoMetricFamily("stead", "Which service and release this is.")
    family.add_metric((), {"service": service, "version": metadata.version("stead")})
    return family


def _calls() -> list[Metric]:
    by_method = ("method",)
    calls = CounterMetricFamily(
        "stead_rpc_calls", "Calls that have ended.", labels=("method", "code")
    )
    seconds = HistogramMetricFamily(
        "stead_rpc_duration_seconds",
        "From the arrival of a call to its end; of a stream all its life.",
        labels=by_method,
    )
    open_ = GaugeMetricFamily("stead_rpc_open_calls", "Calls that last now.", labels=by_method)
    messages = CounterMetricFamily(
        "stead_rpc_stream_messages", "Messages sent on streams to callers.", labels=by_method
    )
    for name, tally in sorted(telemetry.methods().items()):
        for code, count in sorted(tally.codes.items()):
            calls.add_metric((name, code), count)
        seconds.add_metric((name,), tally.seconds.cumulative(), tally.seconds.total)
        open_.add_metric((name,), tally.open)
        if tally.messages:
            messages.add_metric((name,), tally.messages)
    return [calls, seconds, open_, messages]


def _rounds() -> list[Metric]:
    by_lane = ("lane",)
    waiting = GaugeMetricFamily("stead_lane_waiting", "Items that wait now.", labels=by_lane)
    refused = CounterMetricFamily(
        "stead_lane_refused",
        "Items that were not sent: too much waited, or their deadline had passed.",
        labels=("lane", "reason"),
    )
    tallies: dict[str, Tally] = {}
    items: defaultdict[str, int] = defaultdict(int)
    for lane in lanes():
        tallies.setdefault(lane.name, Tally()).add(lane.tally)
        items[lane.name] += lane.waiting
    for name, tally in sorted(tallies.items()):
        waiting.add_metric((name,), items[name])
        refused.add_metric((name, "LANE_FULL"), tally.full)
        refused.add_metric((name, "DEADLINE_PASSED"), tally.late)
    return [
        _of_lanes("batch_items", "Items of a round.", {n: t.sizes for n, t in tallies.items()}),
        _of_lanes("wait_seconds", "From an item's arrival to its round's start.",
                  {n: t.waits_s for n, t in tallies.items()}),
        _of_lanes("round_seconds", "From a round's start to its answers.",
                  {n: t.rounds_s for n, t in tallies.items()}),
        waiting,
        refused,
    ]  # fmt: skip


def _of_lanes(name: str, about: str, histograms: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"stead_lane_{name}", about, labels=("lane",))
    for lane, histogram in sorted(histograms.items()):
        family.add_metric((lane,), histogram.cumulative(), histogram.total)
    return family
