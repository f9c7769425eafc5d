"""Questions to Prometheus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .asking import ask_json, reading
from .traces import BackendUnreachable


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of an instant vector."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """An HTTP API of Prometheus, or of what speaks it."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def query(self, expression: str) -> list[Sample]:
        """The values that there are now; those that are no number are left out. Raises BackendUnreachable."""
        answer = await ask_json("Prometheus", self._url, "/api/v1/query", {"query": expression})
        with reading("Prometheus", self._url):
            if not answer or answer.get("status") != "success":
                raise BackendUnreachable(f"Prometheus at {self._url} has no query interface")
            found = answer["data"]["result"] if answer["data"]["resultType"] == "vector" else []
            samples = [Sample(each["metric"], float(each["value"][1])) for each in found]
        return [sample for sample in samples if math.isfinite(sample.value)]

    async def number(self, expression: str) -> float | None:
        """The one value; None: there is none."""
        samples = await self.query(expression)
        return samples[0].value if samples else None


def counted(selector: str, hours: float, *, before: float = 0.0) -> str:
    """How far counters went in `hours`, until `before` hours ago. Each process has series of its own, which never start
    anew; so what a new process has counted before Prometheus first asked it is counted too, unlike by `increase`."""
    window, offset = _seconds(hours), _seconds(before)
    until = f"max_over_time({selector}[{window}] offset {offset})" if before else f"max_over_time({selector}[{window}])"
    earlier = f"max_over_time({selector}[5m] offset {_seconds(hours + before)})"
    return f"({until} - ({earlier} or {until} * 0))"


def quoted(value: str) -> str:
    """A label's value as PromQL and LogQL write it: whatever it holds, it stays a value."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _seconds(hours: float) -> str:
    return f"{max(1, round(hours * 3600))}s"
