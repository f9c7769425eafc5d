"""Executions that are called off: at any moment, by anybody, at any orchestrator (R54)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from orchestrator_executions import Site, site
from orchestrator_scripted import Gate, eventually, never, step

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import (
    FailedPrecondition,
    NotFound,
)


async def test_a_pending_execution_is_cancelled_before_it_ever_ran(on: Site) -> None:
    """R54"""
    on.at.caller.script = {"a": [never] * 9}
    for number in range(4):
        await on.accept(on.request(), f"busy{number}")
    await on.accept(on.request())
    await eventually(lambda: len(on.at.caller.calls) == 4)

    cancelled = await on.executions.cancel("default", "e", "not wanted")

    assert (cancelled.status, cancelled.error.message) == (Execution.CANCELLED, "not wanted")
    assert len(on.at.caller.calls) == 4
    assert [each["status"] for each in on.completions()] == ["cancelled"]
    assert len(await on.markers()) == 4


async def test_an_execution_is_cancelled_in_the_very_moment_of_its_acceptance(on: Site) -> None:
    await on.accept(on.request())
    cancelled = await on.executions.cancel("default", "e", "")

    assert cancelled.status == Execution.CANCELLED
    assert await on.markers() == []


async def test_a_running_execution_is_cancelled_and_so_is_what_it_calls(on: Site) -> None:
    """R54"""
    on.at.caller.script = {"b": [never]}
    await on.accept(on.request(step("a"), step("b", "filter", "a")))
    await eventually(lambda: on.at.caller.running == {"b"})

    cancelled = await on.executions.cancel("default", "e", "")

    assert (cancelled.status, cancelled.error.code) == (Execution.CANCELLED, "CANCELLED")
    assert cancelled.results["a"].status == Execution.COMPLETED
    assert on.at.caller.cancelled == ["b"]
    assert on.states() == ["running", "cancelled"]


@pytest.mark.parametrize("write", [1, 2, 3, 4, 5, 6, 7, 8])
async def test_a_cancel_during_any_write_ends_the_execution_all_the_same(on: Site, write: int) -> None:
    """As CANCELLED, or as what it had come to by then; never is the request lost."""
    on.store.writes = 0
    reached, go_on = asyncio.Event(), asyncio.Event()
    counted = on.store._counted

    def slow() -> Any:
        async def wait() -> None:
            reached.set()
            await go_on.wait()

        return _Before(counted(), wait if on.store.writes == write - 1 and not reached.is_set() else None)

    on.store._counted = slow  # type: ignore[method-assign]
    accepting = asyncio.create_task(on.accept(on.request(step("a"), step("b", "filter", "a"))))
    await reached.wait()

    if on.executions.live("default", "e") is not None:
        cancelling = asyncio.create_task(on.executions.cancel("default", "e", ""))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait([cancelling])
    go_on.set()
    await accepting
    done = await on.ended()

    assert done.status in (Execution.CANCELLED, Execution.COMPLETED)
    assert len(on.completions()) == 1
    assert on.completions()[0]["status"] == Execution.State.Name(done.status).lower()
    assert await on.markers() == []


class _Before:
    def __init__(self, inner: Any, before: Any) -> None:
        self._inner, self._before = inner, before

    async def __aenter__(self) -> None:
        if self._before is not None:
            await self._before()
        await self._inner.__aenter__()

    async def __aexit__(self, *error: object) -> Any:
        return await self._inner.__aexit__(*error)


async def test_a_finished_execution_cannot_be_cancelled_and_an_unknown_one_is_not_found(on: Site) -> None:
    await on.accept(on.request())
    done = await on.ended()

    with pytest.raises(FailedPrecondition) as caught:
        await on.executions.cancel("default", "e", "")
    with pytest.raises(NotFound):
        await on.executions.cancel("default", "f", "")
    with pytest.raises(NotFound):
        await on.executions.cancel("other", "e", "")

    assert caught.value.reason == "EXECUTION_ENDED"
    assert await on.record() == done


async def test_another_caller_may_cancel_one_that_somebody_waits_for(on: Site) -> None:
    on.at.caller.script = {"a": [never]}
    executing = asyncio.create_task(on.execute(on.request()))
    await eventually(lambda: on.at.caller.running == {"a"})

    cancelled = await on.executions.cancel("default", "e", "enough")

    assert (await executing).status == cancelled.status == Execution.CANCELLED
    assert cancelled.error.message == "enough"


async def test_another_orchestrator_cancels_by_a_mark_that_the_runner_sees_when_it_writes(tmp_path: Path) -> None:
    gate = Gate()
    async with site(tmp_path) as other, site(tmp_path, script={"a": [gate], "b": [never]}) as running:
        await running.accept(running.request(step("a"), step("b", "filter", "a")))
        await eventually(lambda: running.at.caller.running == {"a"})

        await other.executions.cancel("default", "e", "from afar")
        gate.open()

        done = await running.ended()
        assert (done.status, done.error.message) == (Execution.CANCELLED, "from afar")


async def test_a_mark_on_an_execution_that_waits_is_seen_before_it_runs(tmp_path: Path) -> None:
    async with site(tmp_path) as other, site(tmp_path) as running:
        other.executions._holds_queue = False
        await other.accept(other.request())
        await other.executions.cancel("default", "e", "never mind")
        await running.executions.recover()

        assert (await running.ended()).status == Execution.CANCELLED
        assert running.at.caller.calls == []
