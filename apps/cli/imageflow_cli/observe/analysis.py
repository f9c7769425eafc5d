"""Where a pipeline's time goes: from Prometheus, and for its steps from the trace store (R66)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Final

from .metrics import Prometheus, counted, quoted
from .traces import Span, Trace, TraceStore

_DURATION: Final = "imageflow_pipeline_execution_duration"
PARTS: Final = ("queue", "transport", "decode", "compute", "encode")
TRACES: Final = 100
"""The most traces that are looked at."""


@dataclass(frozen=True, slots=True)
class Period:
    """A pipeline's executions in some hours; times in milliseconds, None where there is nothing to tell."""

    executions: int
    success_ratio: float | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class StepShare:
    """One step over several executions: the mean time of its attempts, and which share of it each part took."""

    step: str
    component: str
    attempts: int
    retries: int
    mean_ms: float
    parts: Mapping[str, float]

    @property
    def largest_part(self) -> str:
        return max(PARTS, key=lambda part: self.parts.get(part, 0.0))


@dataclass(frozen=True, slots=True)
class Analysis:
    """What `imageflow analyze` shows. `traces` is how many were looked at; `steps` are slowest first."""

    pipeline: str
    hours: float
    now: Period
    before: Period
    steps: Sequence[StepShare]
    traces: int
    utilization: Mapping[str, float]
    suggestions: Sequence[str]


async def analyze(pipeline: str, hours: float, prometheus: Prometheus, store: TraceStore | None) -> Analysis:
    """Raises BackendUnreachable."""
    now, before = await _period(pipeline, hours, prometheus), await _period(pipeline, hours, prometheus, before=hours)
    traces: Sequence[Trace] = ()
    if store is not None:
        since = datetime.now(UTC) - timedelta(hours=hours)
        traces = await store.find("pipeline.id", pipeline, since=since, limit=TRACES)
    steps = step_shares(span for trace in traces for span in trace)
    utilization = await _utilization(prometheus, hours)
    return Analysis(
        pipeline, hours, now, before, steps, len(traces), utilization, suggestions(steps, now, before, utilization)
    )


async def _period(pipeline: str, hours: float, prometheus: Prometheus, *, before: float = 0.0) -> Period:
    labels = f"pipeline_id={quoted(pipeline)}"
    count, total = counted(f"{_DURATION}_count{{{labels}}}", hours, before=before), f"{_DURATION}_sum{{{labels}}}"
    by_status = {each.labels["status"]: each.value for each in await prometheus.query(f"sum by (status) ({count})")}
    executions = sum(by_status.values())
    if not executions:
        return Period(0, None, None, None, None, None)
    seconds = await prometheus.number(f"sum({counted(total, hours, before=before)})")
    buckets = f"sum by (le) ({counted(f'{_DURATION}_bucket{{{labels}}}', hours, before=before)})"
    quantiles = [await prometheus.number(f"histogram_quantile({q}, {buckets})") for q in (0.5, 0.95, 0.99)]
    p50, p95, p99 = (None if each is None else each * 1e3 for each in quantiles)
    mean_ms = None if seconds is None else seconds / executions * 1e3
    return Period(round(executions), by_status.get("success", 0.0) / executions, mean_ms, p50, p95, p99)


async def _utilization(prometheus: Prometheus, hours: float) -> dict[str, float]:
    window = f"{max(1, round(hours * 3600))}s"
    share = f"max by (component, resource_type) (avg_over_time(imageflow_resource_utilization[{window}]))"
    found = await prometheus.query(share)
    return {f"{each.labels['component']} {each.labels['resource_type']}": each.value for each in found}


def step_shares(spans: Iterable[Span]) -> list[StepShare]:
    """What the attempts of each step took, the slowest step first. Parts are known of attempts that succeeded."""
    attempts: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        if span.name == "step.execute":
            attempts[span.attributes.get("step.id", "")].append(span)
    shares = [_share(step, found) for step, found in attempts.items()]
    return sorted(shares, key=lambda share: -share.mean_ms)


def _share(step: str, attempts: Sequence[Span]) -> StepShare:
    spent = {part: sum(_number(span.attributes.get(f"{part}_ms")) for span in attempts) for part in PARTS}
    whole = sum(spent.values())
    return StepShare(
        step=step,
        component=attempts[0].attributes.get("step.type", ""),
        attempts=len(attempts),
        retries=sum(_number(span.attributes.get("attempt")) > 1 for span in attempts),
        mean_ms=fmean(span.duration_ms for span in attempts),
        parts={part: spent[part] / whole for part in PARTS} if whole else {},
    )


def _number(text: str | None) -> float:
    return float(text) if text and re.fullmatch(r"[0-9.e+-]+", text) else 0.0


_ADVICE: Final[Mapping[str, str]] = {
    "queue": "it waits for a free thread: run more replicas of {component}, or give it more cores",
    "transport": "its images are long on the way: let both ends see IMAGEFLOW_SHARED_DIRECTORY",
    "decode": "decoding leads: send smaller images, or resize first",
    "compute": "its own computation leads: a smaller image before it, or a lighter parameter or model",
    "encode": "encoding leads: a faster format (jpeg) or a lower quality",
}
_MUCH: Final = 0.4


def suggestions(steps: Sequence[StepShare], now: Period, before: Period, utilization: Mapping[str, float]) -> list[str]:
    """One for each bottleneck that can be seen."""
    found = []
    if steps and steps[0].parts.get(steps[0].largest_part, 0.0) >= _MUCH:
        slowest = steps[0]
        part = slowest.largest_part
        advice = _ADVICE[part].format(component=slowest.component)
        found.append(f"{slowest.step}: {slowest.parts[part]:.0%} is {part}; {advice}")
    found += [
        f"{share.step}: {share.retries} of {share.attempts} attempts are retries; see what {share.component} answers"
        for share in steps
        if share.retries > share.attempts / 20
    ]
    if now.success_ratio is not None and now.success_ratio < 0.9:
        found.append(f"{1 - now.success_ratio:.0%} fail: `imageflow executions ls --status FAILED`")
    if now.p95_ms and before.p95_ms and now.p95_ms > 1.5 * before.p95_ms:
        found.append(f"p95 was {before.p95_ms:.0f} ms in the hours before: look at what was changed since")
    found += [f"{name} is {share:.0%} used" for name, share in utilization.items() if share > 0.8]
    return found
