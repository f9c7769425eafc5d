"""Log lines in Loki."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .asking import ask_json, reading
from .metrics import quoted

_USUAL = ("timestamp", "level", "logger", "message", "service", "version", "trace_id", "span_id", "execution_id")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event."""

    time: datetime
    service: str
    level: str
    message: str
    fields: Mapping[str, Any]


async def execution_lines(url: str, execution_id: str, *, since: timedelta, limit: int) -> list[LogLine]:
    """What all services logged of an execution, oldest first. Raises BackendUnreachable."""
    now = datetime.now(UTC)
    question = {
        "query": f'{{service_namespace="imageflow"}} | execution_id={quoted(execution_id)}',
        "start": str(int((now - since).timestamp() * 1e9)),
        "end": str(int((now + timedelta(minutes=1)).timestamp() * 1e9)),
        "limit": str(limit),
        "direction": "forward",
    }
    answer = await ask_json("Loki", url, "/loki/api/v1/query_range", question)
    with reading("Loki", url):
        streams = answer["data"]["result"] if answer else []
        lines = [_line(stream["stream"], int(time), text) for stream in streams for time, text in stream["values"]]
    return sorted(lines, key=lambda line: line.time)


def _line(labels: Mapping[str, str], nanoseconds: int, text: str) -> LogLine:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = {}
    entry = entry if isinstance(entry, dict) else {}
    return LogLine(
        time=datetime.fromtimestamp(nanoseconds / 1e9, UTC),
        service=str(entry.get("service") or labels.get("service_name", "")),
        level=str(entry.get("level") or labels.get("severity_text", "")),
        message=str(entry.get("message") or text),
        fields={name: value for name, value in entry.items() if name not in _USUAL},
    )
