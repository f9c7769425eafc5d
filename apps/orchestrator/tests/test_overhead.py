"""What counts as the orchestrator's own work: the way to and from steps, not the pause before one is made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from orchestrator_executions import site
from orchestrator_scripted import step

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import Unavailable
from imageflow_orchestrator.measures import Measures


async def test_the_pause_before_an_attempt_is_none_of_the_overhead(tmp_path: Path) -> None:
    slow = {"maxRetries": 2, "initialDelay": "0.3s", "backoffFactor": 1.0}
    async with site(tmp_path, script={"a": [Unavailable("once"), Unavailable("twice")]}) as on:
        await on.accept(on.request(step("a", retryPolicy=slow)))
        done = await on.ended()
    assert done.status == Execution.COMPLETED
    assert done.results["a"].timings.retry_ms > 100
    assert done.timings.overhead_ms < done.results["a"].timings.retry_ms / 2


def test_the_way_to_and_from_each_step_is_overhead_too() -> None:
    reader = InMemoryMetricReader()
    execution = Execution()
    execution.timings.overhead_ms = 1.0
    execution.results["a"].timings.transport_ms = 5.0
    execution.results["b"].timings.transport_ms = 7.0

    Measures(MeterProvider([reader]).get_meter("m")).finished(execution)

    data: Any = reader.get_metrics_data()
    told = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    [point] = told["imageflow.orchestration.overhead"].data.data_points
    assert (point.count, point.sum) == (1, pytest.approx(0.013))
