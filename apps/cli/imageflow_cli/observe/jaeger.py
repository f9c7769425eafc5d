"""Traces in Jaeger, or in what speaks its query API (Tempo by its bridge, VictoriaTraces)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .asking import ask_json, reading
from .traces import Span, Trace, by_start


class JaegerStore:
    """A `TraceStore`."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def trace(self, trace_id: str) -> Trace:
        found = await ask_json("Jaeger", self._url, f"/api/traces/{trace_id}")
        with reading("Jaeger", self._url):
            traces = _traces(found)
        return traces[0] if traces else ()

    async def find(self, attribute: str, value: str, *, since: datetime, limit: int) -> Sequence[Trace]:
        question = {
            "service": "orchestrator",
            "tags": json.dumps({attribute: value}),
            "start": str(int(since.timestamp() * 1e6)),
            "end": str(int(datetime.now(UTC).timestamp() * 1e6)),
            "limit": str(limit),
        }
        found = await ask_json("Jaeger", self._url, "/api/traces", question)
        with reading("Jaeger", self._url):
            traces = _traces(found)
        return sorted(traces, key=lambda trace: -trace[0].start_us)


def _traces(answer: Mapping[str, Any] | None) -> list[Trace]:
    found = (answer or {}).get("data") or []
    traces = [by_start([_span(span, each["processes"]) for span in each["spans"]]) for each in found]
    return [trace for trace in traces if trace]


def _span(found: Mapping[str, Any], processes: Mapping[str, Any]) -> Span:
    tags = {tag["key"]: _text(tag["value"]) for tag in found.get("tags", [])}
    parents = [each["spanID"] for each in found.get("references", []) if each.get("refType") == "CHILD_OF"]
    return Span(
        trace_id=found["traceID"],
        span_id=found["spanID"],
        parent_id=parents[0] if parents else "",
        name=found["operationName"],
        service=processes[found["processID"]]["serviceName"],
        start_us=found["startTime"],
        duration_ms=found["duration"] / 1e3,
        failed=tags.get("error") == "true" or tags.get("otel.status_code") == "ERROR",
        attributes=tags,
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
