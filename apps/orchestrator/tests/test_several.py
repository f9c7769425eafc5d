"""Several orchestrators on one store: one begins what is accepted, each may be asked for anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from orchestrator_executions import Site, crash, site
from orchestrator_scripted import eventually, never, step

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import FailedPrecondition, Overloaded


@pytest.fixture
async def holder(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


@pytest.fixture
async def other(tmp_path: Path, holder: Site) -> AsyncIterator[Site]:
    async with site(tmp_path, told=holder.told, max_pending=3, holds_queue=False) as made:
        yield made


async def test_an_execution_is_ended_though_another_is_asked_and_the_one_that_runs_it_writes_nothing(
    holder: Site, other: Site
) -> None:
    """R54: a step that takes an hour writes nothing for an hour."""
    holder.at.caller.script = {"a": [never]}
    await holder.accept(holder.request())
    await eventually(lambda: holder.at.caller.running == {"a"})

    standing = await other.executions.cancel("default", "e", "not needed")
    await holder.executions.recover()
    done = await holder.ended()

    assert standing.status == Execution.RUNNING
    assert (done.status, done.error.message) == (Execution.CANCELLED, "not needed")
    assert holder.at.caller.cancelled == ["a"]
    assert await holder.markers() == []
    assert [each["status"] for each in holder.completions()] == ["cancelled"]


async def test_a_synchronous_execution_is_ended_where_its_caller_waits(holder: Site, other: Site) -> None:
    other.at.caller.script = {"a": [never]}
    waiting = asyncio.create_task(other.execute(other.request()))
    await eventually(lambda: other.at.caller.running == {"a"})

    await holder.executions.cancel("default", "e", "not needed")
    await other.executions.survey()

    assert (await waiting).status == Execution.CANCELLED


async def test_a_cancel_that_comes_to_one_that_has_just_ended_leaves_no_marker(holder: Site, other: Site) -> None:
    await holder.accept(holder.request())
    done = await holder.ended()
    await holder.records.mark_cancelled(done)  # as it was read before it ended

    await holder.executions.recover()

    assert await holder.markers() == []
    assert await holder.record() == done
    with pytest.raises(FailedPrecondition):
        await other.executions.cancel("default", "e", "too late")


async def test_what_is_accepted_is_bounded_at_one_that_begins_nothing(holder: Site, other: Site) -> None:
    """R75"""
    holder.at.caller.script = {"a": [never]}
    await holder.accept(holder.request(), "0")
    await other.executions.survey()
    for name in ("1", "2"):
        await other.accept(other.request(), name)
    with pytest.raises(Overloaded):
        await other.accept(other.request(), "3")

    await other.executions.survey()  # counts the same three, not five
    with pytest.raises(Overloaded):
        await other.accept(other.request(), "3")

    await holder.executions.recover()
    for name in ("1", "2"):
        await holder.ended(name)
    await other.executions.survey()
    assert (await other.accept(other.request(), "3")).status == Execution.PENDING


async def test_the_time_of_an_execution_is_that_of_all_processes_that_had_it(tmp_path: Path) -> None:
    async with site(tmp_path, script={"b": [never]}) as first:
        await first.accept(first.request(step("a"), step("b", "filter", "a")))
        await eventually(lambda: first.at.caller.running == {"b"})
        first.store.dead.set()
        await crash()
        first.store.dead.clear()
        held = await first.records.hold("default", "e")
        held.record.execution.create_time.seconds -= 3_600
        held.record.execution.start_time.seconds -= 3_600
        for old in await first.markers():
            await first.store.delete(old)  # type: ignore[arg-type]
        await first.records.replace(held, held.record)
        await first.store.put(first.records._marker(held.record.execution), b"", media_type="text/plain")
        first.store.dead.set()
    async with site(tmp_path) as second:
        await second.executions.recover()
        done = await second.ended()

    assert done.status == Execution.COMPLETED
    assert 3_600e3 < done.execution_time_ms < 3_700e3
