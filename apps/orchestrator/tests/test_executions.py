"""Executions from acceptance to their end: once, whoever asks, and whatever breaks (R53, R54)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from orchestrator_executions import Site, site, until
from orchestrator_scripted import Gate, eventually, never, step

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import (
    AlreadyExists,
    InvalidImage,
    ObjectNotFound,
    Overloaded,
    StorageFull,
    Unavailable,
)
from imageflow_common.store import ObjectKey
from imageflow_orchestrator import executions as module
from imageflow_orchestrator.claim import new_record
from imageflow_orchestrator.engine import Requested


async def test_an_accepted_execution_is_pending_then_runs_and_its_completion_is_told_once(on: Site) -> None:
    """R40, R42, R53"""
    accepted = await on.accept(on.request(step("a"), step("b", "filter", "a"), output_path="out.jpg"))
    done = await on.ended()

    assert accepted.status == Execution.PENDING
    assert (done.status, done.final_output_path) == (Execution.COMPLETED, "out.jpg")
    assert await on.markers() == []
    (completion,) = on.completions()
    assert (completion["status"], completion["output_path"]) == ("completed", "out.jpg")
    assert on.states() == ["running", "completed"]
    assert (on.states("a"), on.states("b")) == (["running", "completed"], ["running", "completed"])
    numbers = [event.number for event in on.told]
    assert numbers == sorted(set(numbers))
    assert done.last_event_number == numbers[-1]


async def test_an_asynchronous_execution_keeps_every_intermediate(on: Site) -> None:
    await on.accept(on.request(step("a"), step("b", "filter", "a")))
    done = await on.ended()

    assert done.results["a"].output_path == "artifacts/default/e/a/1"
    assert done.final_output_path == "artifacts/default/e/b/1"
    assert await on.keys() == [f"artifacts/default/e/{name}" for name in ("a/1", "b/1", "b/1.json")]


async def test_an_output_that_feeds_other_steps_too_is_still_encoded_as_asked(on: Site) -> None:
    request = on.request(step("a"), step("b", "filter", "a"), outputStep="a", output_format="png")

    await on.accept(request)
    done = await on.ended()

    stored = await on.store.get(ObjectKey(done.final_output_path))
    assert (stored.info.media_type, stored.data[:4]) == ("image/png", b"\x89PNG")


@pytest.mark.parametrize("synchronous", [True, False])
async def test_the_same_request_under_the_same_id_runs_once_for_a_hundred_callers(on: Site, synchronous: bool) -> None:
    gate = Gate()
    on.at.caller.script = {"a": [gate]}
    ask = on.execute if synchronous else on.accept
    asking = [asyncio.create_task(ask(on.request())) for _ in range(100)]
    await eventually(lambda: bool(on.at.caller.calls))

    gate.open()
    answers = await asyncio.gather(*asking)
    done = await on.ended()

    assert {answer.execution_id for answer in answers} == {"e"}
    assert len(on.at.caller.calls) == len(on.completions()) == 1
    assert done.status == Execution.COMPLETED
    if synchronous:
        assert all(answer == done for answer in answers)
    assert len(await on.keys(".imageflow/index/")) == 1
    assert await on.markers() == []


async def test_one_who_waits_and_one_who_does_not_share_an_execution(on: Site) -> None:
    gate = Gate()
    on.at.caller.script = {"a": [gate]}

    await on.accept(on.request())
    waiting = asyncio.create_task(on.execute(on.request()))
    await eventually(lambda: bool(on.at.caller.calls))
    gate.open()

    assert (await waiting).status == Execution.COMPLETED
    assert len(on.at.caller.calls) == 1


@pytest.mark.parametrize("synchronous", [True, False])
async def test_the_same_request_after_a_restart_is_the_same_execution(tmp_path: Path, synchronous: bool) -> None:
    async with site(tmp_path) as first:
        await first.accept(first.request())
        done = await first.ended()

    async with site(tmp_path) as second:
        ask = second.execute if synchronous else second.accept
        assert await ask(second.request()) == done
        assert second.at.caller.calls == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"input_path": "other.jpg"}, "inputPath"),
        ({"output_path": "other.jpg"}, "outputPath"),
        ({"quality": 5}, "quality"),
        ({"timeout": "9s"}, "pipeline.timeout"),
    ],
)
async def test_another_request_under_the_same_id_is_refused_and_told_the_difference(
    on: Site, change: dict[str, Any], named: str
) -> None:
    await on.accept(on.request())
    await on.ended()

    for ask in (on.accept, on.execute):
        with pytest.raises(AlreadyExists) as caught:
            await ask(on.request(**change))
        assert (caught.value.reason, named in caught.value.message) == ("EXECUTION_EXISTS", True)
    assert len(on.at.caller.calls) == 1


async def test_two_namespaces_may_use_one_id(on: Site) -> None:
    await on.accept(on.request(), namespace="a")
    await on.accept(on.request(output_path="out.jpg"), namespace="b")

    first, second = await on.ended(namespace="a"), await on.ended(namespace="b")

    assert (first.final_output_path, second.final_output_path) == ("artifacts/a/e/a/1", "out.jpg")


async def test_the_caller_of_an_asynchronous_execution_may_go_away_at_any_time(on: Site) -> None:
    accepting = asyncio.create_task(on.accept(on.request()))
    await asyncio.sleep(0)
    accepting.cancel()
    await asyncio.wait([accepting])

    assert accepting.cancelled()
    assert (await on.ended()).status == Execution.COMPLETED


async def test_one_of_two_who_wait_goes_away_without_harm_to_the_other(on: Site) -> None:
    gate = Gate()
    on.at.caller.script = {"a": [gate]}
    first = asyncio.create_task(on.execute(on.request()))
    await eventually(lambda: on.at.caller.running == {"a"})
    second = asyncio.create_task(on.execute(on.request()))
    await asyncio.sleep(0.02)

    second.cancel()
    await asyncio.wait([second])
    gate.open()

    assert (await first).status == Execution.COMPLETED


async def test_success_is_not_seen_before_it_is_stored(on: Site) -> None:
    """R14"""
    on.store.holds = "out.jpg.json"
    await on.accept(on.request(output_path="out.jpg"))
    await until(lambda: on.keys(ObjectKey("out.jpg.json")))

    standing = await on.executions.known("default", "e")

    assert (standing.status, standing.final_output_path) == (Execution.RUNNING, "")
    assert not standing.HasField("end_time")


@pytest.mark.parametrize(
    ("script", "request_fields", "reason"),
    [
        ({"a": [InvalidImage("x")]}, {}, "INVALID_IMAGE"),
        ({}, {"input_path": "nowhere.jpg"}, "OBJECT_NOT_FOUND"),
        ({"a": [never]}, {"timeout": "0.02s"}, "EXECUTION_TIMED_OUT"),
    ],
)
async def test_a_failure_closes_the_record_and_is_told(
    on: Site, script: dict[str, Any], request_fields: dict[str, Any], reason: str
) -> None:
    """R53"""
    on.at.caller.script = script
    await on.accept(on.request(**request_fields))
    done = await on.ended()

    assert (done.status, done.error.reason) == (Execution.FAILED, reason)
    assert [each["status"] for each in on.completions()] == ["failed"]
    assert await on.markers() == []


WRITES = 12


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [Unavailable("gone"), StorageFull("no room"), ZeroDivisionError()])
async def test_whatever_write_fails_the_execution_ends_once_and_nothing_is_left_open(
    tmp_path: Path, error: Exception, late: bool
) -> None:
    """R53: the store fails once, at every place, before or after it wrote; a look at what is pending does the rest."""
    for number in range(1, WRITES + 1):
        async with site(tmp_path / str(number)) as on:
            on.store.fails_at, on.store.fails_late = (number, error), late
            try:
                await on.accept(on.request(step("a"), step("b", "filter", "a"), output_path="out.jpg"))
            except (Unavailable, StorageFull, ZeroDivisionError):
                if not late or not await on.keys(".imageflow/records/"):
                    continue
                await on.executions.recover()
            await until(lambda on=on: _settled(on))  # type: ignore[misc]
            done = await on.record()

            passes = isinstance(error, Unavailable)
            assert done.status == Execution.COMPLETED or (not passes and done.status == Execution.FAILED), number
            distinct = {(event.number, event.body) for event in on.told if event.topic == "pipeline-completions"}
            assert len(distinct) == 1, number
            assert on.completions()[0]["status"] == Execution.State.Name(done.status).lower()


async def _settled(on: Site) -> bool:
    await on.executions.recover()
    return not await on.markers()


async def test_a_marker_that_cannot_be_removed_does_not_change_the_outcome(on: Site) -> None:
    delete = on.store.delete

    async def refuse(key: ObjectKey, **options: Any) -> None:
        raise Unavailable("gone")

    on.store.delete = refuse  # type: ignore[method-assign]
    await on.accept(on.request())
    done = await on.ended()
    on.store.delete = delete  # type: ignore[method-assign]

    assert (done.status, len(await on.markers())) == (Execution.COMPLETED, 1)
    await on.executions.recover()
    first, again = (event for event in on.told if event.topic == "pipeline-completions")
    assert first == again
    assert await on.markers() == []
    assert await on.record() == done


async def test_an_accepted_execution_waits_for_a_component_that_is_down_and_holds_no_slot(
    on: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PLAN_AGAIN_SECONDS", 0.002)
    given, down = on.planner.given, True

    def plan(*args: Any, **options: Any) -> Any:
        if down:
            raise Unavailable("filter has not described itself")
        return given(*args, **options)

    request = on.request()
    record = new_record(request, given(request.pipeline, {}), Requested(execution_id="e"), ExecutionRecord.ASYNCHRONOUS)
    monkeypatch.setattr(on.planner, "given", plan)
    await on.executions.accept(record)
    await asyncio.sleep(0.01)
    assert (on.engine.admission.running, (await on.record()).status) == (0, Execution.PENDING)

    down = False

    assert (await on.ended()).status == Execution.COMPLETED


async def test_past_the_most_pending_executions_more_are_told_to_come_back(tmp_path: Path) -> None:
    """R75"""
    async with site(tmp_path, max_pending=2, script={"a": [never, never]}) as on:
        await asyncio.gather(on.accept(on.request(), "a"), on.accept(on.request(), "b"))

        with pytest.raises(Overloaded) as caught:
            await on.accept(on.request(), "c")

        assert caught.value.retry_after is not None
        assert caught.value.retry_after > timedelta(0)
        assert not await on.keys(".imageflow/records/default/c")


async def test_a_run_that_waits_for_its_next_attempt_holds_no_slot(tmp_path: Path) -> None:
    """Two branches at once, and it is still one slot that they come back for."""
    slow = {"maxRetries": 1, "initialDelay": "0.2s", "jitter": 0}
    script = {"x": [Unavailable("x")], "y": [Unavailable("y")]}
    async with site(tmp_path, max_running=1, script=script) as on:
        await on.accept(on.request(step("x", retryPolicy=slow), step("y", retryPolicy=slow), outputStep="x"), "waits")
        await eventually(lambda: len(on.at.caller.calls) == 2 and on.engine.admission.running == 0)

        assert (await on.execute(on.request(), "passes")).status == Execution.COMPLETED
        assert (await on.ended("waits")).status == Execution.COMPLETED
        assert len(on.at.caller.calls) == 5
        assert (on.engine.admission.running, on.engine.admission.waiting) == (0, 0)


async def test_those_who_wait_for_an_answer_come_before_those_who_do_not(tmp_path: Path) -> None:
    """R75"""
    gate = Gate()
    async with site(tmp_path, max_running=1, script={"a": [gate]}) as on:
        await on.accept(on.request(), "first")
        await eventually(lambda: bool(on.at.caller.calls))
        for number in range(3):
            await on.accept(on.request(step(f"later{number}")), f"later{number}")
        await eventually(lambda: on.engine.admission.waiting == 3)
        urgent = [asyncio.create_task(on.execute(on.request(step(f"now{n}")), f"now{n}")) for n in range(3)]
        await eventually(lambda: on.engine.admission.waiting == 6)

        gate.open()
        await asyncio.gather(*urgent)
        for number in range(3):
            await on.ended(f"later{number}")

        order = [call.step_id for call in on.at.caller.calls[1:]]
        assert order.index("now2") < order.index("later1")


async def test_an_input_that_goes_away_before_its_turn_fails_the_caller_who_waits(on: Site) -> None:
    with pytest.raises(ObjectNotFound):
        await on.execute(on.request(input_path="nowhere.jpg"))

    assert (await on.record()).status == Execution.FAILED
    assert len(on.completions()) == 1
