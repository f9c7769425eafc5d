"""A store that is away for a while: what was accepted waits for it, and keeps what it has (R53, R55)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from orchestrator_executions import Site, site, until
from orchestrator_scripted import eventually, lines, step

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import ImageFlowError, InvalidImage, StorageFull, Unavailable, WriteConflict
from imageflow_common.store import ObjectKey
from imageflow_orchestrator.patience import Patience, may_pass, patience_of

ACCEPTING = 3
"""Writes before the answer: they are the caller's to repeat."""
WRITES = 12


async def begin(on: Site) -> None:
    await on.accept(on.request(step("a"), step("b", "filter", "a"), output_path="out.jpg"))


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
async def test_a_burst_of_failures_at_any_write_repeats_no_step_and_loses_no_execution(
    tmp_path: Path, late: bool
) -> None:
    """The write itself fails, before or after it happened, and the next three calls of any kind."""

    async def disturbed(number: int) -> None:
        async with site(tmp_path / str(number)) as on:
            on.store.fails_at, on.store.fails_late, on.store.fails_on = (number, Unavailable("gone")), late, 3
            await begin(on)
            await eventually(lambda: on.executions.live("default", "e") is None)
            on.store.away = 0
            done = await on.ended()
            assert [call.step_id for call in on.at.caller.calls] == ["a", "b"], number
            assert done.status == Execution.COMPLETED, number
            assert (await on.store.get(ObjectKey("out.jpg"))).data == b"b#1"
            assert [each["status"] for each in on.completions()] == ["completed"]

    await asyncio.gather(*(disturbed(number) for number in range(ACCEPTING + 1, WRITES)))


async def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with site(tmp_path) as on:
        on.store.refuses = {"out.jpg.json": Unavailable("gone")}
        await begin(on)
        await eventually(lambda: bool(lines(caplog, "store.away")))
        on.store.refuses = {}
        assert (await on.ended()).status == Execution.COMPLETED
    assert lines(caplog, "store.away") == [{"error_type": "UNAVAILABLE"}]
    (back,) = lines(caplog, "store.back")
    assert back["tries"] >= 2


async def test_a_store_that_stays_away_longer_than_an_execution_may_take_leaves_it_to_the_next_look(
    tmp_path: Path,
) -> None:
    """Not even its failure can be stored; so it has none, and goes on from what is stored."""
    async with site(tmp_path) as on:
        on.store.refuses = {"out.jpg": Unavailable("gone")}
        await on.accept(on.request(step("a"), step("b", "filter", "a"), output_path="out.jpg", timeout="0.2s"))
        await until(lambda: kept(on, {"a", "b"}))
        on.store.refuses = {"": Unavailable("gone")}
        await eventually(lambda: on.executions.live("default", "e") is None)
        on.store.refuses = {}
        assert (await on.record()).status == Execution.RUNNING

        await on.executions.recover()
        done = await on.ended()

        assert done.status == Execution.COMPLETED
        assert [call.step_id for call in on.at.caller.calls] == ["a", "b"]
        assert len(on.completions()) == 1


async def kept(on: Site, steps: set[str]) -> bool:
    return set((await on.records.hold("default", "e")).record.steps) == steps


async def test_an_execution_that_waits_for_the_store_can_be_cancelled(tmp_path: Path) -> None:
    async with site(tmp_path) as on:
        on.store.refuses = {"records/": Unavailable("gone")}
        with pytest.raises(Unavailable):
            await begin(on)  # nothing was accepted
        on.store.refuses = {}
        on.store.fails_at, on.store.fails_on = (on.store.writes + ACCEPTING + 1, Unavailable("gone")), 10**6
        await begin(on)
        await eventually(lambda: on.store.away > 0)
        live = on.executions.live("default", "e")
        assert live is not None
        live.cancel("not needed")
        on.store.away = 0
        done = await on.ended()

        assert (done.status, done.error.message) == (Execution.CANCELLED, "not needed")
        assert on.at.caller.calls == []


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (Unavailable("x"), True),
        (StorageFull("x"), True),
        (WriteConflict("x"), False),
        (InvalidImage("x"), False),
        (ImageFlowError("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_passes_and_what_does_not(error: ImageFlowError, passes: bool) -> None:
    assert may_pass(error) is passes


async def test_an_error_that_does_not_pass_is_raised_at_once() -> None:
    asked: list[int] = []

    async def conflict() -> None:
        asked.append(1)
        raise WriteConflict("it is another by now")

    with pytest.raises(WriteConflict):
        await Patience(3_600).ask(conflict)
    assert len(asked) == 1


async def test_the_last_error_is_raised_when_the_time_is_over() -> None:
    raised: list[Unavailable] = []

    async def away() -> None:
        raised.append(Unavailable(f"{len(raised)}"))
        raise raised[-1]

    with pytest.raises(Unavailable) as caught:
        await Patience(0.3).ask(away)
    assert caught.value is raised[-1]
    assert len(raised) >= 2


def test_a_caller_who_waits_is_told_at_once() -> None:
    seconds = {kind: patience_of(ExecutionRecord(kind=kind)).seconds for kind in ExecutionRecord.Kind.values()}
    assert seconds[ExecutionRecord.SYNCHRONOUS] == 0
    assert seconds[ExecutionRecord.ASYNCHRONOUS] == seconds[ExecutionRecord.BATCH] == 3_600
