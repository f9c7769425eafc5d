"""Traces in Zipkin, by its API v2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .asking import ask_json, reading
from .traces import Span, Trace, by_start


class ZipkinStore:
    """A `TraceStore`."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def trace(self, trace_id: str) -> Trace:
        found = await ask_json("Zipkin", self._url, f"/api/v2/trace/{trace_id}")
        with reading("Zipkin", self._url):
            return by_start([_span(each) for each in found or []])

    async def find(self, attribute: str, value: str, *, since: datetime, limit: int) -> Sequence[Trace]:
        now = datetime.now(UTC)
        question = {
            "serviceName": "orchestrator",
            "annotationQuery": f"{attribute}={value}",
            "endTs": str(int(now.timestamp() * 1e3)),
            "lookback": str(int((now - since).total_seconds() * 1e3)),
            "limit": str(limit),
        }
        found = await ask_json("Zipkin", self._url, "/api/v2/traces", question)
        with reading("Zipkin", self._url):
            traces = [by_start([_span(span) for span in each]) for each in found or [] if each]
            return sorted(traces, key=lambda trace: -trace[0].start_us)


def _span(found: Mapping[str, Any]) -> Span:
    tags = {str(name): str(value) for name, value in found.get("tags", {}).items()}
    return Span(
        trace_id=found["traceId"],
        span_id=found["id"],
        parent_id=found.get("parentId", ""),
        name=found.get("name", ""),
        service=found.get("localEndpoint", {}).get("serviceName", ""),
        start_us=found.get("timestamp", 0),
        duration_ms=found.get("duration", 0) / 1e3,
        failed="error" in tags,
        attributes=tags,
    )
