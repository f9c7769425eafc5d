"""Hours of metrics, as the product's would have been, written into a real Prometheus' own files."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PIPELINE = 'p "quoted"\\'
BOUNDS_MS = {"0.05": 50, "0.1": 90, "0.25": 100, "1.0": 100, "+Inf": 100}
"""Of each hundred executions, how many took no longer."""
MINUTES = 180
_METRIC = "imageflow_pipeline_execution_duration"


def write_history(promtool: str, data: Path) -> None:
    """Three hours, a point a minute: 100 successes and 5 failures of 60 ms in each of the last two hours' minutes, and
    none before."""
    data.mkdir(parents=True, exist_ok=True)
    text = data.parent / "history.txt"
    text.write_text("\n".join(_lines()) + "\n")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def _lines() -> Iterator[str]:
    pipeline = PIPELINE.replace("\\", "\\\\").replace('"', '\\"')
    yield f"# TYPE {_METRIC} histogram"
    now = int(time.time())
    for status, each_minute in (("success", 100), ("failed", 5)):
        for kind, share in [*((f'_bucket{{le="{le}",', n / 100) for le, n in BOUNDS_MS.items()), ("_count{", 1.0)]:
            for minute in range(MINUTES):
                value = max(0, minute - 60) * each_minute * share
                labels = f'pipeline_id="{pipeline}",status="{status}"'
                yield f"{_METRIC}{kind}{labels}}} {value} {now - (MINUTES - minute) * 60}"
        for minute in range(MINUTES):
            value = max(0, minute - 60) * each_minute * 0.06
            yield f'{_METRIC}_sum{{pipeline_id="{pipeline}",status="{status}"}} {value} {now - (MINUTES - minute) * 60}'
    yield "# TYPE imageflow_resource_utilization gauge"
    for minute in range(MINUTES):
        labels = 'component="filter",resource_type="cpu"'
        yield f"imageflow_resource_utilization{{{labels}}} 0.9 {now - (MINUTES - minute) * 60}"
    yield "# EOF"
