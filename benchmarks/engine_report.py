"""What was measured of the engine, beside what is wanted of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .environment import Environment


@dataclass(frozen=True, slots=True)
class Figures:
    """Times by percentile, by shape and by size of plan; processor time is of one step, one at a time."""

    environment: Environment
    step_ms: Mapping[str, float]
    echo_ms: Mapping[str, float]
    engine_cpu_ms: float
    component_cpu_ms: float
    steps_per_second: float
    validation_ms: Mapping[str, float]
    scheduling_us: Mapping[int, float]
    resumed_executions: int
    resume_seconds: float


def as_markdown(figures: Figures) -> str:
    where = figures.environment
    rows = [
        ("one step, one at a time, p50", f"{figures.step_ms['p50']:.2f} ms", "≤ 1 ms"),
        ("one step, one at a time, p99", f"{figures.step_ms['p99']:.2f} ms", "≤ 5 ms"),
        ("a bare grpc.aio call with the same bytes, p50", f"{figures.echo_ms['p50']:.2f} ms", ""),
        ("a bare grpc.aio call with the same bytes, p99", f"{figures.echo_ms['p99']:.2f} ms", ""),
        ("processor time of a step in the engine", f"{figures.engine_cpu_ms:.2f} ms", ""),
        ("processor time of a step in the component's process", f"{figures.component_cpu_ms:.2f} ms", ""),
        ("steps a second, eight runs at once", f"{figures.steps_per_second:.0f}", "≥ 600, better 1,000"),
        *(
            (f"a plan of 1,000 steps, {shape}: validated in", f"{spent:.0f} ms", "< 50 ms")
            for shape, spent in figures.validation_ms.items()
        ),
        *(
            (f"scheduling a step of {size:,}", f"{spent:.0f} µs", "the same for all")
            for size, spent in figures.scheduling_us.items()
        ),
        (
            f"{figures.resumed_executions:,} interrupted executions finished in",
            f"{figures.resume_seconds:.0f} s",
            "≤ 60 s",
        ),
    ]
    return "\n".join(
        [
            "# The engine's own cost",
            "",
            f"Measured {where.date} at commit {where.commit}: {where.cpu}, {where.cores} cores, Python {where.python}, "
            f"grpcio {where.packages['grpcio']}. Load average of the minute before: {where.load_average}. "
            "Much above 0, and others were at work.",
            "",
            "| | measured | wanted |",
            "| --- | ---: | ---: |",
            *(f"| {what} | {measured} | {wanted} |" for what, measured, wanted in rows),
            "",
        ]
    )
