"""Traces as they are read back: spans, and the Protocol of the stores that keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

from imageflow_common.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Span:
    """A span; ids in hexadecimal, the start in microseconds since 1970. Attributes are text, as stores keep them."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    start_us: int
    duration_ms: float
    failed: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)


Trace: TypeAlias = tuple[Span, ...]


class TraceStore(Protocol):
    """Where traces are kept."""

    async def trace(self, trace_id: str) -> Trace:
        """The spans of a trace by their start; none: it is not known here. Raises BackendUnreachable."""

    async def find(self, attribute: str, value: str, *, since: datetime, limit: int) -> Sequence[Trace]:
        """Traces with a span of the orchestrator that has the attribute, newest first. Raises BackendUnreachable."""


class BackendUnreachable(Unavailable):
    """A store of metrics, traces or logs does not answer as it should."""

    reason = "BACKEND_UNREACHABLE"


def by_start(spans: Sequence[Span]) -> Trace:
    """In order of start; where clocks agree to the microsecond a parent comes before its children."""
    return tuple(sorted(spans, key=lambda span: (span.start_us, -span.duration_ms)))
