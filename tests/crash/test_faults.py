"""What goes wrong around the orchestrator has a clear outcome, loses nothing, and is over when it is over."""

from __future__ import annotations

import hashlib
import itertools
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from backends.small_disk import fill, small_disk
from imageflow.v1.execution_pb2 import Execution
from imageflow_common.keys import PENDING_PREFIX
from imageflow_common.store import ObjectKey

from . import pictures
from .shapes import INPUT, QUICK
from .stage import Life, Stage, eventually, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENT = {"maxRetries": 60, "initialDelay": "0.1s", "maxDelay": "0.2s"}
IMPATIENT = {"maxRetries": 1, "initialDelay": "0.01s", "maxDelay": "0.01s"}
_numbers = itertools.count()


def request(**step: Any) -> dict[str, Any]:
    """Runs `QUICK`, each of its steps with these fields."""
    asked = QUICK.request(f"fault-{next(_numbers)}")
    asked["pipeline"]["steps"] = [{**each, **step} for each in asked["pipeline"]["steps"]]
    return asked


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def then_all_is_well(stage: Stage, life: Life, quick_sha256: str) -> AsyncIterator[None]:
    """After each test the next execution completes with the right output, and nothing is left of those before."""
    yield
    stage.fault("filter")
    stage.clock.write_text("0")
    execution = await life.run(request())
    await right(stage, execution, quick_sha256)
    await eventually(lambda: not stage.images_in_shared_memory())

    async def nothing_pending() -> bool:
        async with stage.reading() as store:
            return not (await store.list(PENDING_PREFIX)).items

    await eventually(nothing_pending)


async def right(stage: Stage, execution: Execution, sha256: str) -> None:
    assert execution.status == Execution.COMPLETED, execution
    async with stage.reading() as store:
        stored = await store.get(ObjectKey(execution.final_output_path))
    assert hashlib.sha256(stored.data).hexdigest() == sha256


async def called(stage: Stage, execution_id: str) -> None:
    """Waits until the filter is at work on it."""
    await eventually(
        lambda: any(
            e.what == "call" and (e.execution_id, e.words[0]) == (execution_id, "soft") for e in stage.entries()
        )
    )


async def test_a_component_that_is_killed_at_work_is_asked_again_when_it_is_back(
    stage: Stage, life: Life, quick_sha256: str
) -> None:
    stage.fault("filter", delay_seconds=20)
    accepted = await life.create(request(retryPolicy=PATIENT))
    await called(stage, accepted.execution_id)
    await stage.components["filter"].end()
    stage.fault("filter")
    await stage.start_component("filter")
    execution = await life.until_ended(accepted.execution_id)
    await right(stage, execution, quick_sha256)
    assert execution.results["soft"].attempts > 1
    assert execution.results["small"].attempts == 1


async def test_an_execution_waits_for_a_component_that_is_stopped_and_goes_on_with_it(
    stage: Stage, life: Life, quick_sha256: str
) -> None:
    stage.components["filter"].send(signal.SIGSTOP)
    accepted = await life.create(request(timeout="30s"))

    async def at_work() -> bool:
        return (await life.get(accepted.execution_id)).results["soft"].status == Execution.RUNNING

    await eventually(at_work)
    stage.components["filter"].send(signal.SIGCONT)
    await right(stage, await life.until_ended(accepted.execution_id), quick_sha256)


async def test_a_step_of_a_component_that_stays_stopped_times_out(stage: Stage, life: Life) -> None:
    stage.components["filter"].send(signal.SIGSTOP)
    execution = await life.run(request(timeout="0.3s", retryPolicy=IMPATIENT))
    stage.components["filter"].send(signal.SIGCONT)
    assert execution.status == Execution.FAILED
    assert (execution.error.code, execution.error.step_id) == ("DEADLINE_EXCEEDED", "soft")
    assert execution.results["soft"].attempts == 2


async def test_a_step_of_a_component_that_is_slow_times_out(stage: Stage, life: Life) -> None:
    stage.fault("filter", delay_seconds=20)
    execution = await life.run(request(timeout="0.2s", retryPolicy=IMPATIENT))
    assert execution.status == Execution.FAILED
    assert (execution.error.code, execution.error.step_id) == ("DEADLINE_EXCEEDED", "soft")


@pytest.mark.parametrize("answer", ["another format", "no bytes", "too few pixels"])
async def test_an_answer_that_is_wrong_fails_the_step_and_says_so(stage: Stage, life: Life, answer: str) -> None:
    stage.fault("filter", answer=answer)
    execution = await life.run(request(retryPolicy=IMPATIENT))
    assert execution.status == Execution.FAILED
    assert (execution.error.reason, execution.error.step_id) == ("BAD_ANSWER", "soft")
    assert not execution.final_output_path


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL"])
async def test_a_burst_of_errors_is_outlived_by_retries(stage: Stage, life: Life, quick_sha256: str, code: str) -> None:
    stage.fault("filter", refuse=code)
    accepted = [await life.create(request(retryPolicy=PATIENT)) for _ in range(10)]
    for each in accepted:
        await called(stage, each.execution_id)
    stage.fault("filter")
    for each in accepted:
        await right(stage, await life.until_ended(each.execution_id), quick_sha256)


async def test_an_orchestrator_that_is_stopped_and_continued_loses_nothing(
    stage: Stage, life: Life, quick_sha256: str
) -> None:
    stage.fault("filter", delay_seconds=0.2)
    accepted = [await life.create(request()) for _ in range(3)]
    await called(stage, accepted[0].execution_id)
    life.process.send(signal.SIGSTOP)
    await eventually(lambda: "T" in Path(f"/proc/{life.process.pid}/stat").read_text().rpartition(")")[2].split()[0])
    life.process.send(signal.SIGCONT)
    for each in accepted:
        await right(stage, await life.until_ended(each.execution_id), quick_sha256)


async def test_a_clock_that_steps_backwards_changes_no_outcome(stage: Stage, life: Life, quick_sha256: str) -> None:
    stage.fault("filter", delay_seconds=0.2)
    before = await life.create(request())
    await called(stage, before.execution_id)
    stage.clock.write_text("-86400")
    after = await life.create(request())
    for each in (before, after):
        await right(stage, await life.until_ended(each.execution_id), quick_sha256)
    assert {before.execution_id, after.execution_id} <= {each.execution_id for each in await life.list_all()}


async def test_what_a_crash_left_is_resumed_under_a_clock_that_stepped_backwards(
    tmp_path: Path, quick_sha256: str
) -> None:
    async with staged(tmp_path / "own", "resize", "filter") as stage:
        stage.fault("filter", delay_seconds=20)
        async with stage.live() as life:
            await life.upload(INPUT, pictures.coins())
            accepted = await life.create(request())
            await called(stage, accepted.execution_id)
            await eventually(lambda: any(e.what == "stored" for e in stage.entries()))
            await life.process.end()
        stage.fault("filter")
        stage.clock.write_text("-86400")
        async with stage.live() as life:
            await right(stage, await life.until_ended(accepted.execution_id), quick_sha256)
        assert sum(e.what == "call" and e.words[0] == "small" for e in stage.entries()) == 1


async def test_a_full_disk_refuses_what_is_new_and_loses_nothing_that_was_accepted(
    tmp_path: Path, quick_sha256: str
) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        async with staged(tmp_path / "own", "resize", "filter") as stage:
            await _fill_and_make_room(stage, disk, quick_sha256)


async def _fill_and_make_room(stage: Stage, disk: Path, quick_sha256: str) -> None:
    stage.store_root = disk / "store"
    async with stage.live() as life:
        await life.upload(INPUT, pictures.coins())
        stage.fault("filter", delay_seconds=0.5)
        accepted = await life.create(request())
        await called(stage, accepted.execution_id)
        filling = fill(disk)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await life.create(request())
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await eventually(lambda: "store.away" in life.process.said)
        filling.unlink()
        stage.fault("filter")
        await right(stage, await life.until_ended(accepted.execution_id), quick_sha256)
        await right(stage, await life.run(request()), quick_sha256)
