"""Executions that have ended: listed, deleted, and removed when their time is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from orchestrator_executions import Site
from orchestrator_scripted import JPEG, never, step

from imageflow.v1 import execution_service_pb2 as service
from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import FailedPrecondition, InvalidArgument, InvalidImage, NotFound
from imageflow_common.keys import index_key, record_key
from imageflow_common.store import ObjectKey
from imageflow_orchestrator.engine import Requested


class Caller:
    """A call's context without metadata."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


CONTEXT = cast(Any, Caller())
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


async def record(on: Site, number: int, **fields: Any) -> None:
    """One that was accepted so many minutes after `BEGIN`."""
    made = ExecutionRecord(execution=Execution(execution_id=f"e{number}", namespace="default", **fields))
    made.execution.create_time.FromDatetime(BEGIN + timedelta(minutes=number))
    await on.records.create(made)


async def listed(on: Site, **fields: Any) -> list[str]:
    answer = await on.api.list(service.ListExecutionsRequest(**fields), CONTEXT)
    return [each.execution_id for each in answer.executions]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["e3", "e2", "e1", "e0"]),
        ({"pipeline_id": "q"}, ["e2"]),
        ({"status": Execution.FAILED}, ["e3", "e1"]),
        ({"parent_execution_id": "e0"}, ["e1"]),
        ({"created_after": "2026-01-01T00:02:00Z"}, ["e3", "e2"]),
        ({"created_before": "2026-01-01T00:02:00Z"}, ["e1", "e0"]),
        ({"created_after": "2026-01-01T01:01:00+01:00", "created_before": "2026-01-01T00:03:00"}, ["e2", "e1"]),
        ({"created_after": "2027-01-01T00:00:00Z"}, []),
        ({"status": Execution.FAILED, "pipeline_id": "q"}, []),
    ],
)
async def test_executions_are_listed_newest_first_by_what_is_asked(
    on: Site, filters: dict[str, Any], expected: list[str]
) -> None:
    await record(on, 0, status=Execution.COMPLETED, pipeline_id="p")
    await record(on, 1, status=Execution.FAILED, pipeline_id="p", parent_execution_id="e0")
    await record(on, 2, status=Execution.CANCELLED, pipeline_id="q")
    await record(on, 3, status=Execution.FAILED, pipeline_id="p")

    assert await listed(on, **filters) == expected


async def test_a_list_goes_on_page_by_page_until_its_time_is_over(on: Site) -> None:
    for number in range(7):
        await record(on, number, status=Execution.COMPLETED)
    found, token, pages = list[str](), "", 0
    while pages == 0 or token:
        answer = await on.api.list(
            service.ListExecutionsRequest(
                page_size=2,
                page_token=token,
                created_after="2026-01-01T00:01:00Z",
                created_before="2026-01-01T00:06:00Z",
            ),
            CONTEXT,
        )
        found += [each.execution_id for each in answer.executions]
        token, pages = answer.next_page_token, pages + 1

    assert found == ["e5", "e4", "e3", "e2", "e1"]
    assert pages <= 4


@pytest.mark.parametrize("field", ["created_after", "created_before"])
@pytest.mark.parametrize("text", ["yesterday", "0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "12:00"])
async def test_a_time_that_is_none_is_an_invalid_argument_or_finds_what_it_says(
    on: Site, field: str, text: str
) -> None:
    await record(on, 0, status=Execution.COMPLETED)
    try:
        found = await listed(on, **{field: text})
    except InvalidArgument:
        return
    assert found == (["e0"] if (text < "2026") == (field == "created_after") else [])


async def test_images_of_a_batch_are_listed_by_their_parent(on: Site) -> None:
    request = on.request(step("a"), input_path="")
    request.batch.paths.extend(["in.jpg", "nowhere.jpg"])
    await on.accept(request)
    await on.ended()

    assert sorted(await listed(on, parent_execution_id="e")) == ["e.00000", "e.00001"]
    assert sorted(await listed(on)) == ["e", "e.00000", "e.00001"]


async def test_an_ended_execution_is_deleted_with_its_artifacts_but_not_its_output(on: Site) -> None:
    await on.accept(on.request(step("a"), step("b", "filter", "a"), output_path="mine/out.jpg"))
    await on.ended()

    await on.api.delete(service.DeleteExecutionRequest(execution_id="e"), CONTEXT)

    assert await on.keys("artifacts/") == []
    assert await on.keys(".imageflow/") == []
    assert await on.keys("mine/") == ["mine/out.jpg", "mine/out.jpg.json"]
    with pytest.raises(NotFound):
        await on.api.delete(service.DeleteExecutionRequest(execution_id="e"), CONTEXT)


async def test_a_running_execution_is_not_deleted(on: Site) -> None:
    on.at.caller.script = {"a": [never]}
    await on.accept(on.request())

    with pytest.raises(FailedPrecondition) as caught:
        await on.api.delete(service.DeleteExecutionRequest(execution_id="e"), CONTEXT)

    assert caught.value.reason == "EXECUTION_RUNNING"


async def test_a_deleted_executions_id_is_free_again(on: Site) -> None:
    await on.accept(on.request())
    await on.ended()
    await on.api.delete(service.DeleteExecutionRequest(execution_id="e"), CONTEXT)

    await on.accept(on.request(output_path="other.jpg"))

    assert (await on.ended()).final_output_path == "other.jpg"


async def test_what_is_past_its_time_is_removed_whole_and_nothing_else(on: Site) -> None:
    """Record, artifacts and index; never an output of the caller's own, and never what has not ended."""
    on.at.caller.script = {"runs": [never]}
    await on.accept(on.request(step("runs")), "runs")
    for execution_id, namespace in (("e", "default"), ("f", "other")):
        await on.accept(on.request(output_path=f"out/{execution_id}.jpg"), execution_id, namespace)
        await on.ended(execution_id, namespace)
    end = (await on.record()).end_time.ToDatetime(tzinfo=UTC)

    assert await on.janitor.sweep(end + timedelta(minutes=30)) == 0
    assert await on.janitor.sweep(end + timedelta(hours=3)) == 2

    assert await on.keys(".imageflow/records/") == [".imageflow/records/default/runs"]
    assert len(await on.keys(".imageflow/index/")) == 1
    assert await on.keys("artifacts/") == []
    assert len(await on.keys("out/")) == 4


async def test_only_what_is_old_enough_is_looked_at(on: Site) -> None:
    for number in range(5):
        await record(on, number, status=Execution.COMPLETED)
    read = list[str]()
    get = on.records.get

    async def seen(namespace: str, execution_id: str) -> Execution:
        read.append(execution_id)
        return await get(namespace, execution_id)

    on.records.get = seen  # type: ignore[method-assign]
    await on.janitor.sweep(BEGIN + timedelta(hours=1, minutes=2, seconds=30))

    assert sorted(read) == ["e0", "e1", "e2"]
    assert sorted(await listed(on)) == ["e3", "e4"]


async def test_what_is_damaged_or_stray_stops_no_sweep(on: Site) -> None:
    for number in range(3):
        await record(on, number, status=Execution.COMPLETED)
    await on.store.put(record_key("default", "e1"), b"{", media_type="application/json")
    await on.store.put(index_key("default", BEGIN, "no-record"), b"", media_type="text/plain")
    await on.store.put(ObjectKey(".imageflow/index/default/9999/stray"), b"", media_type="text/plain")

    assert await on.janitor.sweep(BEGIN + timedelta(days=1)) == 2

    left = await on.keys(".imageflow/index/")
    assert [key.rpartition("/")[2].partition("-")[2] for key in left] == ["e1", ""]


async def test_the_record_of_an_image_in_hand_expires_too(on: Site) -> None:
    on.at.caller.script = {"a": [InvalidImage("x")]}
    plan = on.planner.given(on.request().pipeline, {})
    await on.engine.process(plan, JPEG, "", Requested(execution_id="e"))
    created = (await on.record()).create_time.ToDatetime(tzinfo=UTC)

    assert await on.janitor.sweep(created + timedelta(minutes=59)) == 0
    assert await on.janitor.sweep(created + timedelta(minutes=61)) == 1
