"""Draws a dashboard from what Prometheus, Loki and the trace store answer to its panels' queries."""

from __future__ import annotations

import math
from pathlib import Path
from time import time
from typing import Any

import httpx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .dashboards import FOLDER
from .stack import Stack, read_json

_MINUTES = 2
_COLUMNS = 24
_MOST_LEGENDS = 9


def draw_board(board: str, on: Stack, file: Path) -> None:
    """The panels where they stand on the board, over the last minutes."""
    panels = read_json(FOLDER / f"{board}.json")["panels"]
    height = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels)
    figure = Figure(figsize=(18, height * 0.36), layout="constrained")
    grid = figure.add_gridspec(height, _COLUMNS)
    for panel in panels:
        place = panel["gridPos"]
        axes = figure.add_subplot(grid[place["y"] : place["y"] + place["h"], place["x"] : place["x"] + place["w"]])
        axes.set_title(panel["title"], fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
        _draw(panel, axes, on)
    figure.savefig(file, dpi=70)


def _draw(panel: dict[str, Any], axes: Axes, on: Stack) -> None:
    match panel["datasource"]["type"]:
        case "prometheus":
            for target in panel["targets"]:
                (_draw_heat if panel["type"] == "heatmap" else _draw_series)(target, axes, on)
            if 0 < len(axes.get_legend_handles_labels()[1]) <= _MOST_LEGENDS:
                axes.legend(fontsize=6, loc="upper left")
        case "loki":
            lines = on.logged(panel["targets"][0]["expr"])
            _write(axes, [f"{len(lines)} lines, of " + ", ".join(sorted({each["service_name"] for each in lines}))])
        case _:
            _draw_traces(panel["targets"][0]["operation"], axes, on)


def _ask(target: dict[str, Any], on: Stack, now: float) -> list[dict[str, Any]]:
    asked = {"query": target["expr"], "start": str(now - _MINUTES * 60), "end": str(now), "step": "2"}
    found: list[dict[str, Any]] = httpx.get(f"{on.prometheus.url}/api/v1/query_range", params=asked).json()["data"][
        "result"
    ]
    return found


def _draw_heat(target: dict[str, Any], axes: Axes, on: Stack) -> None:
    """How many there were in each bucket, of a query that answers how many were in it or below."""
    now = time()
    series = sorted(_ask(target, on, now), key=lambda each: float(each["metric"]["le"]))
    times = sorted({at for each in series for at, _ in each["values"]})
    counts = np.zeros((len(series), len(times)))
    for row, each in enumerate(series):
        for at, value in each["values"]:
            counts[row, times.index(at)] = float(value)
    axes.pcolormesh([at - now for at in times], range(len(series)), np.diff(counts, axis=0, prepend=0), cmap="Blues")
    axes.set_yticks(range(len(series)), [each["metric"]["le"] for each in series], fontsize=5)


def _draw_series(target: dict[str, Any], axes: Axes, on: Stack) -> None:
    now = time()
    for series in _ask(target, on, now):
        points = [(float(at) - now, float(value)) for at, value in series["values"]]
        points = [(at, value) for at, value in points if math.isfinite(value)]
        label = target.get("legendFormat") or " "
        for name, value in series["metric"].items():
            label = label.replace(f"{{{{{name}}}}}", value)
        axes.plot([at for at, _ in points], [value for _, value in points], label=label[:40], linewidth=1)


def _draw_traces(operation: str, axes: Axes, on: Stack) -> None:
    asked = {"serviceName": "orchestrator", "spanName": operation, "limit": "20"}
    traces = httpx.get(f"{on.zipkin.url}/api/v2/traces", params=asked).json()
    longest = [max(trace, key=lambda span: span.get("duration", 0)) for trace in traces]
    axes.barh(range(len(longest)), [span.get("duration", 0) / 1e3 for span in longest])
    axes.set_yticks(range(len(longest)), [span["traceId"][:12] for span in longest], fontsize=6)
    axes.set_xlabel("ms", fontsize=7)


def _write(axes: Axes, lines: list[str]) -> None:
    axes.axis("off")
    axes.text(0.01, 0.9, "\n".join(lines), fontsize=8, va="top")
