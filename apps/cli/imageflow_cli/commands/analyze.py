"""`imageflow analyze`: how a pipeline did over some hours, and what holds it up."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imageflow_cli.observe.options import prometheus_option, trace_store_options
from imageflow_cli.options import json_option
from imageflow_cli.output import Output

if TYPE_CHECKING:
    from imageflow_cli.observe.analysis import Analysis, Period
    from imageflow_cli.observe.traces import TraceStore


@click.command()
@click.argument("pipeline")
@click.option("--hours", type=click.FloatRange(0, min_open=True), default=24.0, show_default=True, help="How far back.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the steps' times into this file.")
@prometheus_option
@trace_store_options
@json_option
def analyze(
    pipeline: str, hours: float, plot: Path | None, prometheus: str, store: TraceStore | None, out: Output
) -> None:
    """Show a pipeline's executions, times and slowest steps over the last hours, beside the hours before.

    Steps come from the trace store; without one, only the whole is shown. --plot needs matplotlib.
    """
    import asyncio

    from imageflow_cli.observe.analysis import analyze as analyzed
    from imageflow_cli.observe.metrics import Prometheus

    found = asyncio.run(analyzed(pipeline, hours, Prometheus(prometheus), store))
    if plot is not None:
        from imageflow_cli.observe.plot import draw

        draw(found, plot)
    out.data(asdict(found))
    _show(out, found)


def _show(out: Output, found: Analysis) -> None:
    out.line(f"{found.pipeline}, the last {found.hours:g} h")
    rows = [
        [name, now, before]
        for (name, now), (_, before) in zip(_figures(found.now), _figures(found.before), strict=True)
    ]
    out.table(["", "now", "before"], rows, right=["now", "before"])
    if found.steps:
        out.line(f"steps, slowest first, in {found.traces} traces")
        parts = ("queue", "transport", "decode", "compute", "encode")
        out.table(
            ["step", "component", "attempts", "retries", "mean", *parts],
            [
                [
                    step.step,
                    step.component,
                    str(step.attempts),
                    str(step.retries),
                    f"{step.mean_ms:.1f} ms",
                    *(f"{step.parts.get(part, 0.0):.0%}" for part in parts),
                ]
                for step in found.steps
            ],
            right=["attempts", "retries", "mean", *parts],
        )
    elif found.now.executions:
        out.note("no traces were looked at: name a trace store by --zipkin or --jaeger")
    for name, share in sorted(found.utilization.items()):
        out.line(f"{name}: {share:.0%}")
    for suggestion in found.suggestions:
        out.line(f"→ {suggestion}")


def _figures(period: Period) -> list[tuple[str, str]]:
    ratio = "-" if period.success_ratio is None else f"{period.success_ratio:.1%}"
    times = {"mean": period.mean_ms, "p50": period.p50_ms, "p95": period.p95_ms, "p99": period.p99_ms}
    return [
        ("executions", str(period.executions)),
        ("succeeded", ratio),
        *((name, "-" if value is None else f"{value:.1f} ms") for name, value in times.items()),
    ]
