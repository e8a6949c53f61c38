"""The picture beside build/bench.json: how often, how late and how dear, row by row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot

PANELS = (
    ("rate_per_s", "per second (log)"),
    ("p50_ms", "p50, ms (log)"),
    ("cpu_ms_per_op", "CPU of all, ms each (log)"),
)


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes `rows` of the bench as an SVG picture."""
    names = [f"{row['scenario']} x {row['concurrency']}" for row in rows]
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(13, 4.5), sharey=True)
    for axis, (key, title) in zip(axes, PANELS, strict=True):
        bars = axis.barh(names, [row[key] for row in rows], color="#3b6ea5", log=True)
        axis.bar_label(bars, fmt="%g", padding=3, fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.2)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
