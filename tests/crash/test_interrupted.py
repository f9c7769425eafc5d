"""What a crash means for executions that are more than a request to run once: batches, reruns, callers who wait."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.keys import PENDING_PREFIX

from . import pictures
from .points import POINTS
from .proving import PROVE, share_of
from .shapes import INPUT, LINEAR, QUICK, reference
from .stage import Life, Stage, eventually, staged
from .verdict import Expected, calls_of, faults_found

IMAGES = 6
HOUR_SECONDS = "3600"
SOME_POINTS = POINTS[:: len(POINTS) // share_of(len(POINTS))]
BATCH_POINTS = SOME_POINTS if PROVE else ("record-created:within", "checkpoint:after", "completion:after")
RERUN_POINTS = SOME_POINTS if PROVE else ("record-created:after", "artifact:after")


@pytest_asyncio.fixture
async def own(tmp_path: Path) -> AsyncIterator[Stage]:
    """A product whose orchestrator is killed, so that no other test may share it."""
    async with staged(tmp_path / "own", "resize", "filter") as running:
        yield running


async def nothing_pending(stage: Stage) -> bool:
    async with stage.reading() as store:
        return not (await store.list(PENDING_PREFIX, page_size=1)).items


async def everything_ended(stage: Stage) -> dict[str, Execution]:
    """All executions, an hour later, when also what was never accepted has been swept away."""
    stage.clock.write_text(HOUR_SECONDS)
    async with stage.live() as life:
        await eventually(lambda: nothing_pending(stage))
        return {each.execution_id: each for each in await life.list_all()}


async def killed(life: Life) -> None:
    assert await life.process.ended() == -signal.SIGKILL


@pytest.mark.timeout(600 if PROVE else 120)
async def test_a_batch_goes_on_where_it_was_however_often_the_orchestrator_is_killed(own: Stage) -> None:
    sha256 = await reference(QUICK)
    images = [f"batch/{number}.png" for number in range(IMAGES)]
    async with own.live() as life:
        for image in images:
            await life.upload(image, pictures.coins())
    asked = {**QUICK.request("all"), "batch": {"paths": images, "concurrency": 2}}
    del asked["inputPath"]
    for point in BATCH_POINTS:
        async with own.live(point=point, count=3) as life:
            with suppress(grpc.aio.AioRpcError):  # the kill, before the answer; then the next life is asked again
                await life.create(asked)
            await either(life.process.ended(), until_told(own, "all"))
            await life.process.end()
    async with own.live() as life:
        await life.run(asked)
    ended = await everything_ended(own)
    parent = ended["all"]
    assert parent.status == Execution.COMPLETED, parent
    assert (parent.batch.total, parent.batch.completed) == (IMAGES, IMAGES)
    children = {name: each for name, each in ended.items() if name != "all"}
    assert len(children) == IMAGES
    expected = [Expected(name, QUICK, sha256) for name in children]
    assert not await faults_found(own, expected, children)
    assert (
        len({entry.words for entry in own.entries() if (entry.what, entry.execution_id) == ("completion", "all")}) == 1
    )


async def until_told(stage: Stage, execution_id: str) -> None:
    await eventually(
        lambda: any((e.what, e.execution_id) == ("completion", execution_id) for e in stage.entries()), every=0.1
    )


async def either(*waits: Coroutine[Any, Any, object]) -> None:
    """Until one of them is over."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("point", RERUN_POINTS)
async def test_a_rerun_that_is_killed_takes_over_what_it_should_and_no_more(own: Stage, point: str) -> None:
    async with own.live() as life:
        await life.upload(INPUT, pictures.coins())
        await life.run(LINEAR.request("first"))
    async with own.live(point=point) as life:
        with suppress(grpc.aio.AioRpcError):
            await life.rerun("first", from_step="half", new_execution_id="again")
        await either(life.process.ended(), until_told(own, "again"))
        await life.process.end()
    async with own.live() as life:
        await life.rerun("first", from_step="half", new_execution_id="again")
        await life.until_ended("again")
    ended = await everything_ended(own)
    assert ended["again"].status == Execution.COMPLETED, ended["again"]
    assert (ended["again"].rerun_of, sorted(ended["again"].reused_steps)) == ("first", ["small", "soft"])
    calls = calls_of(own.entries())
    assert {step for name, step in calls if name == "again"} == {"half"}


async def test_an_execution_whose_caller_waited_is_closed_as_interrupted_after_its_time(own: Stage) -> None:
    async with own.live(point="call:after") as life:
        await life.upload(INPUT, pictures.coins())
        with pytest.raises(grpc.aio.AioRpcError):
            await life.execute(QUICK.request("waited"))
        await killed(life)
    async with own.live() as life:
        await life.run(QUICK.request("another"))
        assert (await life.get("waited")).status in (Execution.PENDING, Execution.RUNNING)
    ended = await everything_ended(own)
    assert ended["waited"].status == Execution.FAILED
    assert ended["waited"].error.reason == "INTERRUPTED"
    told = [entry for entry in own.entries() if (entry.what, entry.execution_id) == ("completion", "waited")]
    assert [entry.words[1] for entry in told] == ["failed"]
    assert not own.images_in_shared_memory()


async def test_a_cancelled_execution_stays_cancelled(own: Stage) -> None:
    own.fault("filter", delay_seconds=20)
    async with own.live(point="terminal-record:after") as life:
        await life.upload(INPUT, pictures.coins())
        await life.create(QUICK.request("unwanted"))
        await eventually(lambda: calls_of(own.entries())["unwanted", "soft"])
        with pytest.raises(grpc.aio.AioRpcError):
            await life.cancel("unwanted")
        await killed(life)
    ended = await everything_ended(own)
    assert ended["unwanted"].status == Execution.CANCELLED
    assert calls_of(own.entries())["unwanted", "soft"] == 1
