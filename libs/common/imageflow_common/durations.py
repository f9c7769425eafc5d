"""A histogram of seconds that costs little to record with; one of OpenTelemetry's SDK takes ten microseconds a time.
Read when metrics are exported."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from time import time_ns
from types import MappingProxyType
from typing import Final, Protocol

from opentelemetry import trace

BOUNDS_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Recorder(Protocol):
    """Ours, or an instrument of OpenTelemetry's."""

    def record(self, amount: float, attributes: Mapping[str, str] | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Example:
    """One value, and the span in which it was recorded."""

    seconds: float
    moment: int
    trace_id: int
    span_id: int


@dataclass(slots=True)
class Series:
    """What was recorded with one set of labels. `counts` has one more than the bounds; `examples` are the last of each
    bucket since they were last read."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_SECONDS) + 1))
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")
    examples: dict[int, Example] = field(default_factory=dict)


class Durations:
    """May be used from any thread. The labels of one place in the code come in one order."""

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.since = time_ns()
        self._series: dict[tuple[tuple[str, str], ...], Series] = {}
        self._lock = Lock()

    def record(self, amount: float, attributes: Mapping[str, str] | None = None) -> None:
        labels = tuple((attributes or _NONE).items())
        span = trace.get_current_span().get_span_context()
        bucket = bisect_left(BOUNDS_SECONDS, amount)
        with self._lock:
            series = self._series.get(labels)
            if series is None:
                series = self._series[labels] = Series()
            series.counts[bucket] += 1
            series.total += amount
            series.least = min(series.least, amount)
            series.most = max(series.most, amount)
            if span.trace_flags & trace.TraceFlags.SAMPLED:
                series.examples[bucket] = Example(amount, time_ns(), span.trace_id, span.span_id)

    def read(self) -> Sequence[tuple[Mapping[str, str], Series]]:
        """All of it, by labels, as it is now."""
        with self._lock:
            found = [
                (dict(labels), Series(list(one.counts), one.total, one.least, one.most, one.examples))
                for labels, one in self._series.items()
            ]
            for one in self._series.values():
                one.examples = {}
        return found
