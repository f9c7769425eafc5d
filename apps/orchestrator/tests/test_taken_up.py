"""Executions that another process left behind or holds: taken up once, and nothing stops the others (R53, R55)."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from orchestrator_executions import Site, site, until
from orchestrator_scripted import Gate, eventually, lines, never, step

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import (
    DataLoss,
    Overloaded,
)
from imageflow_common.keys import pending_key, record_key
from imageflow_common.store import ObjectKey
from imageflow_orchestrator import executions as module
from imageflow_orchestrator.claim import new_record
from imageflow_orchestrator.engine import Requested
from imageflow_orchestrator.planned import SYNCHRONOUS
from imageflow_orchestrator.records import now


async def test_stopping_lets_what_runs_finish_and_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    gate = Gate()
    async with site(tmp_path, max_running=1, script={"a": [gate]}) as first:
        await first.accept(first.request(), "runs")
        await eventually(lambda: first.at.caller.running == {"a"})
        await first.accept(first.request(), "waits")
        stopping = asyncio.create_task(first.executions.stop(10))
        await asyncio.sleep(0)
        gate.open()
        await stopping
        assert (await first.record("runs")).status == Execution.COMPLETED
        assert (await first.record("waits")).status == Execution.PENDING
        with pytest.raises(Overloaded):
            await first.accept(first.request(), "late")

    async with site(tmp_path) as second:
        await second.executions.recover()
        assert (await second.ended("waits")).status == Execution.COMPLETED


async def test_what_does_not_finish_within_the_grace_is_resumed_by_the_next(tmp_path: Path) -> None:
    """R55"""
    async with site(tmp_path, script={"b": [never]}) as first:
        await first.accept(first.request(step("a"), step("b", "filter", "a")))
        await eventually(lambda: first.at.caller.running == {"b"})
        await until(lambda: first.keys(ObjectKey("artifacts/default/e/a/1")))
        await first.executions.stop(0.01)
        assert (await first.record()).status == Execution.RUNNING

    async with site(tmp_path) as second:
        await second.executions.recover()
        assert (await second.ended()).status == Execution.COMPLETED
        assert [call.step_id for call in second.at.caller.calls] == ["b"]


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"schemaVersion": 1, "execution": 5}'])
async def test_a_damaged_record_is_reported_and_set_aside_and_all_else_goes_on(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(tmp_path) as first:
        first.executions._holds_queue = False
        for execution_id in ("bad", "good"):
            await first.accept(first.request(), execution_id)
        await first.store.put(record_key("default", "bad"), damage, media_type="application/json")

    async with site(tmp_path) as second:
        await second.executions.recover()
        assert (await second.ended("good")).status == Execution.COMPLETED
        await second.executions.recover()

        assert [line["execution_id"] for line in lines(caplog, "record.set_aside")] == ["bad"]
        assert await second.markers() == []
        assert (await second.store.get(record_key("default", "bad"))).data == damage
        with pytest.raises(DataLoss):
            await second.executions.known("default", "bad")


async def test_a_record_that_nobody_can_take_up_stops_no_other(
    on: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    on.executions._holds_queue = False
    await on.accept(on.request(), "bad")
    await on.accept(on.request(), "good")
    begin = on.executions._begin

    def broken(held: Any) -> None:
        if held.record.execution.execution_id == "bad":
            raise ZeroDivisionError
        begin(held)

    monkeypatch.setattr(on.executions, "_begin", broken)
    await on.executions.recover()
    await on.executions.recover()

    assert (await on.ended("good")).status == Execution.COMPLETED
    assert [line["error_type"] for line in lines(caplog, "execution.not_recovered")] == ["ZeroDivisionError"]


async def test_a_record_of_a_later_version_is_left_to_that_version(on: Site, caplog: pytest.LogCaptureFixture) -> None:
    on.executions._holds_queue = False
    await on.accept(on.request())
    record = json.loads((await on.store.get(record_key("default", "e"))).data)
    record["schemaVersion"] = 2
    later = json.dumps(record).encode()
    await on.store.put(record_key("default", "e"), later, media_type="application/json")

    await on.executions.recover()
    await on.executions.recover()

    assert [line["error_type"] for line in lines(caplog, "record.set_aside")] == ["UNKNOWN_RECORD_VERSION"]
    assert len(await on.markers()) == 1
    assert (await on.store.get(record_key("default", "e"))).data == later


async def test_a_marker_without_a_record_is_removed_once_nobody_can_be_about_to_write_it(on: Site) -> None:
    for execution_id, age in (("old", timedelta(minutes=2)), ("new", timedelta(0))):
        await on.store.put(pending_key("default", now() - age, execution_id), b"", media_type="text/plain")
    await on.store.put(ObjectKey(".imageflow/pending/stray"), b"", media_type="text/plain")

    await on.executions.recover()

    left = [key for key in await on.markers() if not key.endswith("stray")]
    assert [key.rpartition("/")[2] for key in left] == ["new"]


async def test_a_marker_that_lost_the_race_for_its_id_is_removed_and_nothing_told(on: Site) -> None:
    await on.accept(on.request())
    await on.ended()
    told = len(on.told)
    await on.store.put(pending_key("default", now() - timedelta(hours=1), "e"), b"", media_type="text/plain")

    await on.executions.recover()

    assert (await on.markers(), len(on.told)) == ([], told)


async def test_looking_for_what_is_pending_while_it_is_accepted_begins_nothing_twice(on: Site) -> None:
    async def look() -> None:
        for _ in range(50):
            await on.executions.recover()

    looking = asyncio.create_task(look())
    for number in range(20):
        await on.accept(on.request(), f"e{number}")
    await looking
    for number in range(20):
        await on.ended(f"e{number}")

    assert len(on.at.caller.calls) == 20


async def test_one_that_somebody_waited_for_when_the_process_ended_is_closed_after_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path) as first:
        request = first.request()
        plan = first.planner.given(request.pipeline, {}, defaults=SYNCHRONOUS)
        record = new_record(request, plan, Requested(execution_id="e"), ExecutionRecord.SYNCHRONOUS)
        await first.records.create(record, pending=True)

    async with site(tmp_path) as second:
        await second.executions.recover()
        assert (await second.record()).status == Execution.PENDING
        monkeypatch.setattr(module, "deadline_passed", lambda _record: True)
        await second.executions.recover()

        done = await second.record()
        assert (done.status, done.error.reason) == (Execution.FAILED, "INTERRUPTED")
        assert (len(second.completions()), await second.markers()) == (1, [])
        assert second.at.caller.calls == []


async def test_one_orchestrator_accepts_and_the_one_that_holds_the_queue_runs(tmp_path: Path) -> None:
    async with site(tmp_path) as accepting, site(tmp_path) as running:
        accepting.executions._holds_queue = False
        await accepting.accept(accepting.request())
        await running.executions.recover()
        await running.ended()

        assert (len(accepting.at.caller.calls), len(running.at.caller.calls)) == (0, 1)


async def test_an_execution_that_another_orchestrator_ended_is_written_and_told_no_more(
    on: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """The older is fenced."""
    gate = Gate()
    on.at.caller.script = {"a": [gate]}
    await on.accept(on.request())
    await eventually(lambda: on.at.caller.running == {"a"})
    held = await on.records.hold("default", "e")
    held.record.execution.status = Execution.FAILED
    await on.records.replace(held, held.record)

    gate.open()
    await eventually(lambda: on.executions.live("default", "e") is None)

    assert (await on.record()).status == Execution.FAILED
    assert on.completions() == []
    assert [line["execution_id"] for line in lines(caplog, "execution.fenced")] == ["e"]
