"""What counts as the orchestrator's own work: not the pause before a step is made again."""

from __future__ import annotations

from pathlib import Path

from orchestrator_executions import site
from orchestrator_scripted import step

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import Unavailable


async def test_the_pause_before_an_attempt_is_none_of_the_overhead(tmp_path: Path) -> None:
    slow = {"maxRetries": 2, "initialDelay": "0.3s", "backoffFactor": 1.0}
    async with site(tmp_path, script={"a": [Unavailable("once"), Unavailable("twice")]}) as on:
        await on.accept(on.request(step("a", retryPolicy=slow)))
        done = await on.ended()
    assert done.status == Execution.COMPLETED
    assert done.results["a"].timings.retry_ms > 100
    assert done.timings.overhead_ms < done.results["a"].timings.retry_ms / 2
