"""A measurement as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")  # there is no screen

from matplotlib import pyplot

from .results import Results
from .samples import PARTS
from .workloads import LABELS, SERVED, VARIANTS, WORKLOADS, Variant

_PART_COLOURS: Final = dict(
    zip(
        PARTS,
        ("#bab0ac", "#9c755f", "#e15759", "#f28e2b", "#4e79a7", "#59a14f", "#76b7b2", "#ff9da7", "#edc948", "#dddddd"),
        strict=True,
    )
)
_VARIANT_COLOURS: Final[dict[Variant, str]] = {"functions": "#59a14f", "shared": "#4e79a7", "inline": "#e15759"}


def draw(results: Results, file: Path) -> None:
    """Writes a PNG: where the time of each pipeline goes, and its throughput by requests in flight."""
    figure, axes = pyplot.subplots(1, 1 + len(WORKLOADS), figsize=(17, 5), width_ratios=[1.8, 1, 1, 1])
    _draw_breakdown(axes[0], results)
    for axis, workload in zip(axes[1:], WORKLOADS, strict=True):
        _draw_throughput(axis, results, workload.name, workload.title)
    figure.tight_layout()
    figure.savefig(file, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _draw_breakdown(axis: Any, results: Results) -> None:
    places = [(w, v, 4 * i + j) for i, w in enumerate(WORKLOADS) for j, v in enumerate(VARIANTS)]
    tops = dict.fromkeys(range(4 * len(WORKLOADS)), 0.0)
    for part in PARTS:
        values = [results.of(w.name, v).latency.parts_ms[part] for w, v, _ in places]
        xs = [x for _, _, x in places]
        below = [0.0 if part == "overlap" else tops[x] for x in xs]
        hatch = "//" if part == "overlap" else None
        axis.bar(xs, values, bottom=below, color=_PART_COLOURS[part], label=part, hatch=hatch, width=0.85)
        if part != "overlap":
            tops.update({x: tops[x] + value for x, value in zip(xs, values, strict=True)})
    walls = [results.of(w.name, v).latency.mean_ms for w, v, _ in places]
    axis.plot([x for _, _, x in places], walls, "k_", markersize=16, label="wall")
    for (_, _, x), wall in zip(places, walls, strict=True):
        axis.annotate(f"{wall:.1f}", (x, max(wall, tops[x])), ha="center", va="bottom", fontsize=8)
    axis.axhline(0, color="black", linewidth=0.6)
    ticks = [f"{LABELS[v][0]}\n{w.name}" if v == "shared" else LABELS[v][0] for w, v, _ in places]
    axis.set_xticks([x for _, _, x in places], ticks)
    axis.set_ylabel("ms, mean, one request at a time")
    axis.set_title("Where the time goes")
    axis.legend(fontsize=7, ncols=2, loc="upper left")


def _draw_throughput(axis: Any, results: Results, name: str, title: str) -> None:
    numbers = results.amount.in_flight
    bare = results.of(name, "functions").best_per_second
    colour = _VARIANT_COLOURS["functions"]
    axis.axhline(bare, color=colour, linestyle="--", label="a, a process for each core")
    threaded = results.of(name, "functions").threaded
    if threaded is not None:
        axis.axhline(threaded.per_second, color=colour, linestyle=":", label="a, one process on all cores")
    for variant in SERVED:
        loads = results.of(name, variant).loads
        rates = [loads[number].per_second for number in numbers]
        axis.plot(numbers, rates, "o-", color=_VARIANT_COLOURS[variant], label=LABELS[variant])
    axis.set_xscale("log", base=2)
    axis.set_xticks(numbers, [str(number) for number in numbers])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("requests in flight")
    axis.set_ylabel("requests/s")
    axis.set_title(title, fontsize=10)
    axis.legend(fontsize=7, loc="lower right")
