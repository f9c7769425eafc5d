"""An orchestrator that dies at any write, and the one that takes up what it left (R55)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from orchestrator_executions import Site, crash, site, until
from orchestrator_scripted import JPEG, QUICK, eventually, never, step

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import RecordedRequest
from imageflow_common.errors import ImageFlowError, Unavailable
from imageflow_common.events import Event
from imageflow_common.formats import RAW
from imageflow_common.store import ObjectKey

CHAIN = (
    step("a"),
    step("look", "detect", "a"),
    step("b", "filter", "a", retryPolicy=QUICK),
    step("c", "filter", "look", "b", inputFrom={"image": "b"}),
)


def pipeline(on: Site) -> RecordedRequest:
    return on.request(*CHAIN, output_path="out.jpg")


async def undisturbed(directory: Path) -> tuple[str, int]:
    """The output's sha-256, and how many writes it takes."""
    async with site(directory) as on:
        await on.accept(pipeline(on))
        await on.ended()
        return await output(on), on.store.writes


async def output(on: Site) -> str:
    return (await on.store.head(ObjectKey("out.jpg"))).sha256 or ""


async def interrupted(directory: Path, told: list[Event], *, after: int, late: bool) -> set[str]:
    """Dies at a write; answers the steps whose results the record has by then."""
    async with site(directory, told=told, script={"b": [Unavailable("once")]}) as on:
        on.store.dies_after, on.store.dies_late = after, late
        work = asyncio.create_task(on.accept(pipeline(on)))
        recovering = asyncio.create_task(on.executions.recover())
        await dead_or_done(on, work)
        await asyncio.sleep(0.01)
        await crash()
        assert work.done()
        assert recovering.done()
        on.store.dead.clear()
        on.store.dies_after = None
        kept = await finished(on)
        on.store.dead.set()
        return kept


async def dead_or_done(on: Site, accepting: asyncio.Task[Any]) -> None:
    """It may need a write less than when the writes were counted: several changes of a record are one write."""

    def done() -> bool:
        return accepting.done() and on.executions.live("default", "e") is None

    await eventually(lambda: on.store.dead.is_set() or done())


async def finished(on: Site, execution_id: str = "e") -> set[str]:
    try:
        return set((await on.records.hold("default", execution_id)).record.steps)
    except ImageFlowError:
        return set()


def check_news(told: list[Event]) -> None:
    """One completion, and no number ever used for two different things."""
    contents: dict[int, set[tuple[str, bytes]]] = {}
    for event in told:
        contents.setdefault(event.number, set()).add((event.topic, event.body))
    assert {number: said for number, said in contents.items() if len(said) > 1} == {}
    completions = {(event.number, event.body) for event in told if event.topic == "pipeline-completions"}
    assert len(completions) == 1


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_an_execution_interrupted_at_any_write_completes_as_if_it_had_not_been(
    tmp_path: Path, late: bool
) -> None:
    """R55: the same output, no step again whose result was stored, one completion, nothing left over."""
    expected, writes = await undisturbed(tmp_path / "undisturbed")
    assert writes > 10
    for number in range(1, writes + 1):
        directory, told = tmp_path / f"{number}", list[Event]()
        kept = await interrupted(directory, told, after=number, late=late)
        async with site(directory, told=told) as on:
            await on.executions.recover()
            if not await on.keys(".imageflow/records/"):
                await on.accept(pipeline(on))  # it was never accepted: the client asks again
            done = await on.ended()

            assert (done.status, await output(on)) == (Execution.COMPLETED, expected), number
            assert not kept & {call.step_id for call in on.at.caller.calls}, number
            assert {each.status for each in done.results.values()} == {Execution.COMPLETED}
            assert len(await on.keys(".imageflow/index/")) >= 1
            assert not [each for each in await on.keys("") if each.startswith("tmp")]
            check_news(told)
            await until(lambda on=on: no_marker_but_orphans(on))  # type: ignore[misc]


async def no_marker_but_orphans(on: Site) -> bool:
    """A marker whose record was never written stays for a while: its writer may be at work."""
    created = (await on.record()).create_time.ToMilliseconds()
    return not [key for key in await on.markers() if f"{created}-" in key]


async def test_an_execution_that_is_interrupted_over_and_over_completes(tmp_path: Path) -> None:
    """R55"""
    expected, _ = await undisturbed(tmp_path / "undisturbed")
    told = list[Event]()
    for _ in range(12):
        await interrupted(tmp_path / "x", told, after=5, late=True)

    async with site(tmp_path / "x", told=told) as on:
        await on.executions.recover()
        done = await on.ended()

        assert (done.status, await output(on)) == (Execution.COMPLETED, expected)
        check_news(told)
        assert await on.markers() == []


async def test_a_result_whose_image_is_gone_or_cut_is_computed_again(tmp_path: Path) -> None:
    """R55"""
    expected, writes = await undisturbed(tmp_path / "undisturbed")
    told = list[Event]()
    await interrupted(tmp_path / "x", told, after=writes - 3, late=False)
    async with site(tmp_path / "x", told=told) as on:
        await on.store.put(ObjectKey("artifacts/default/e/b/2"), b"cut", media_type="image/tiff")
        await on.executions.recover()
        done = await on.ended()

        assert (done.status, await output(on)) == (Execution.COMPLETED, expected)


async def test_a_looker_that_had_finished_does_not_look_again_though_the_image_it_passed_on_was_not_stored(
    tmp_path: Path,
) -> None:
    """R55: its result is in the record; what takes its image waits until that has been made again."""
    steps = (step("a"), step("look", "detect", "a"), step("b", "filter", "look"))
    async with site(tmp_path, script={"b": [never]}) as first:
        first.store.holds = "artifacts/default/e/a"
        await first.accept(first.request(*steps, output_path="out.jpg"))
        await until(lambda: looked(first))
        first.store.dead.set()
        await crash()
        first.store.dead.clear()
        await first.store.delete(ObjectKey("artifacts/default/e/a/1"))
        first.store.dead.set()
    async with site(tmp_path) as on:
        await on.executions.recover()
        done = await on.ended()

        assert done.status == Execution.COMPLETED
        assert [call.step_id for call in on.at.caller.calls] == ["a", "b"]
        assert on.at.caller.called("b")[0].request.inputs[0].media_type == RAW  # of `a`, and not the pipeline's input
        assert done.results["look"].status == Execution.COMPLETED


async def looked(on: Site) -> bool:
    return await finished(on) == {"look"}


async def begin_batch(on: Site) -> None:
    request = on.request(step("a"), input_path="")
    request.batch.paths.extend(f"in/{number}.jpg" for number in range(3))
    request.batch.concurrency = 2
    for path in request.batch.paths:
        await on.store.put(ObjectKey(path), JPEG, media_type="image/jpeg")
    on.store.writes = 0
    await on.accept(request)


async def test_a_batch_interrupted_at_any_write_is_finished_and_counts_every_image(tmp_path: Path) -> None:
    """R55: each image's execution is one, however often its batch is resumed."""
    async with site(tmp_path / "undisturbed") as on:
        await begin_batch(on)
        await on.ended()
        writes = on.store.writes
    for number in range(4, writes + 1, 3):
        told, kept = list[Event](), set[str]()
        async with site(tmp_path / f"{number}", told=told) as on:
            beginning = asyncio.create_task(begin_batch(on))
            await until(lambda on=on: paths_are_there(on))  # type: ignore[misc]
            on.store.dies_after = number
            await dead_or_done(on, beginning)
            await crash()
            assert beginning.done()
            on.store.dead.clear()
            on.store.dies_after = None
            kept = {child for child in CHILDREN if await finished(on, child)}
            on.store.dead.set()
        async with site(tmp_path / f"{number}", told=told) as on:
            await until(lambda on=on: nothing_pending(on))  # type: ignore[misc]
            done = await on.ended()

            assert (done.status, done.batch.total, done.batch.completed) == (Execution.COMPLETED, 3, 3), number
            for child in CHILDREN:
                assert (await on.ended(child)).status == Execution.COMPLETED
            assert not kept & {call.request.context.execution_id for call in on.at.caller.calls}
            for execution_id in ("e", *CHILDREN):
                check_news([event for event in told if event.key == execution_id])


CHILDREN = ("e.00000", "e.00001", "e.00002")


async def paths_are_there(on: Site) -> bool:
    return len(await on.keys("in/")) == 3


async def nothing_pending(on: Site) -> bool:
    """What is being claimed at the moment is left to the next look."""
    await on.executions.recover()
    return not await on.markers()
