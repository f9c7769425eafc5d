"""Runs over images in the store: what is stored, when, and what the record says of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from orchestrator_executions import Site, site
from orchestrator_scripted import JPEG, Gate, answer, eventually, lines, never, step

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow.v1.detect_pb2 import Detection, DetectMetadata
from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord, RecordedRequest
from imageflow_common.errors import (
    AlreadyExists,
    ImageTooLarge,
    InvalidImage,
    InvalidKey,
    ObjectNotFound,
    Overloaded,
    StorageFull,
    Unavailable,
    UnsupportedImage,
)
from imageflow_common.images import decode
from imageflow_common.store import ObjectKey
from imageflow_orchestrator.admission import Admission
from imageflow_orchestrator.engine import Requested


@pytest.fixture
async def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """Nothing is left in shared memory, and no task."""
    monkeypatch.setattr("imageflow_orchestrator.images.INLINE_BELOW_BYTES", 1)
    async with site(tmp_path, max_running=1, max_waiting=0) as made:
        yield made
        assert made.at.files() == []
        assert asyncio.all_tasks() == {asyncio.current_task()}


def with_output(request: RecordedRequest, key: str) -> RecordedRequest:
    request.output_path = key
    return request


async def find(request: ComponentRequest) -> ComponentResponse:
    found = DetectMetadata(detections=[Detection(label="coin", confidence=0.5)])
    return ComponentResponse(metadata=found.SerializeToString())


async def test_the_output_and_what_was_found_out_are_stored_before_success_is_told(on: Site) -> None:
    """R14, R31"""
    on.at.caller.script = {"look": [find]}
    request = on.request(step("look", "detect"), step("b", "filter", "look"))

    done = await on.execute(with_output(request, "out/b.jpg"))

    assert (done.status, done.final_output_path) == (Execution.COMPLETED, "out/b.jpg")
    assert done.results["b"].output_path == "out/b.jpg"
    assert done.execution_time_ms > 0
    assert {step_id: result.attempts for step_id, result in done.results.items()} == {"look": 1, "b": 1}
    stored = await on.store.get(ObjectKey("out/b.jpg"))
    assert (stored.data, stored.info.media_type) == (b"b#1", "image/jpeg")
    beside = await on.store.get(ObjectKey("out/b.jpg.json"))
    assert beside.info.media_type == "application/json"
    metadata = json.loads(beside.data)
    assert metadata["steps"]["look"]["detections"][0]["label"] == "coin"
    assert (metadata["executionId"], metadata["inputPath"]) == ("e", "in.jpg")
    assert await on.record() == done


async def test_an_input_that_is_replaced_between_two_steps_is_the_one_that_was_read(on: Site) -> None:
    read: list[bytes] = []

    async def replace_it(request: ComponentRequest) -> ComponentResponse:
        image = request.inputs[0]
        assert on.at.caller.shared is not None
        read.append(bytes(on.at.caller.shared.read(image.shared_memory_name, image.size_bytes)))
        await on.store.put(ObjectKey("in.jpg"), b"another", media_type="image/jpeg")
        return answer(request)

    on.at.caller.script = {"a": [replace_it], "b": [replace_it]}

    done = await on.execute(on.request(step("a", "resize"), step("b", "filter", "a", inputFrom={"image": ""})))

    assert done.status == Execution.COMPLETED
    assert read == [JPEG, JPEG]


async def test_without_an_output_path_the_output_goes_to_a_key_of_the_executions_own(on: Site) -> None:
    """R30"""
    done = await on.execute(on.request(step("a", "resize")))

    assert done.final_output_path == "artifacts/default/e/a/1"
    assert await on.keys() == ["artifacts/default/e/a/1", "artifacts/default/e/a/1.json"]


@pytest.mark.parametrize(
    ("persist", "fails", "kept"),
    [
        ("NEVER", False, []),
        ("NEVER", True, []),
        ("ON_FAILURE", False, []),
        ("ON_FAILURE", True, ["artifacts/default/e/a/1"]),
        ("ALWAYS", False, ["artifacts/default/e/a/1"]),
        ("ALWAYS", True, ["artifacts/default/e/a/1"]),
        (None, True, []),
    ],
)
async def test_an_intermediate_is_kept_as_its_step_says(
    on: Site, persist: str | None, fails: bool, kept: list[str]
) -> None:
    if fails:
        on.at.caller.script = {"b": [InvalidImage("x")]}
    request = on.request(step("a", **({"persist": persist} if persist else {})), step("b", "filter", "a"))

    done = await on.execute(with_output(request, "out.jpg"))

    assert done.status == (Execution.FAILED if fails else Execution.COMPLETED)
    assert await on.keys() == kept
    assert done.results["a"].output_path == (kept[0] if kept else "")
    if kept:
        pixels = decode((await on.store.get(ObjectKey(kept[0]))).data)
        assert pixels.array.tobytes() == b"a#1"


async def test_a_run_that_failed_is_an_answer_with_every_result_there_is(on: Site) -> None:
    """R14, R51, R53"""
    on.at.caller.script = {"b": [InvalidImage("no image at all")]}
    request = on.request(step("a"), step("b", "filter", "a"), step("c", "filter", "b"))

    done = await on.execute(with_output(request, "out.jpg"))

    assert done.status == Execution.FAILED
    assert (done.error.reason, done.error.step_id) == ("INVALID_IMAGE", "b")
    states = {step_id: Execution.State.Name(result.status) for step_id, result in done.results.items()}
    assert states == {"a": "COMPLETED", "b": "FAILED", "c": "SKIPPED"}
    assert done.results["c"].message == "b did not succeed"
    assert await on.keys("out") == []
    assert await on.record() == done


async def test_a_taken_execution_id_is_refused_and_its_record_untouched(on: Site) -> None:
    done = await on.execute(on.request(step("a")))

    with pytest.raises(AlreadyExists) as caught:
        await on.execute(on.request(step("a"), output_path="other.jpg"))

    assert "outputPath" in caught.value.message
    assert await on.record() == done


async def test_an_input_that_is_not_there_fails_the_execution(on: Site) -> None:
    await on.store.delete(ObjectKey("in.jpg"))

    with pytest.raises(ObjectNotFound):
        await on.execute(on.request(step("a")))

    record = await on.record()
    assert (record.status, record.error.reason) == (Execution.FAILED, "OBJECT_NOT_FOUND")
    assert record.HasField("end_time")


@pytest.mark.parametrize(
    ("data", "error"), [(b"x" * 1_001, ImageTooLarge), (b"text", UnsupportedImage), (b"", InvalidImage)]
)
async def test_an_input_that_cannot_be_an_image_fails_the_execution(
    on: Site, data: bytes, error: type[Exception]
) -> None:
    """R53"""
    await on.store.put(ObjectKey("in.jpg"), data, media_type="image/jpeg")

    with pytest.raises(error):
        await on.execute(on.request(step("a")))

    assert (await on.record()).status == Execution.FAILED
    assert on.at.caller.calls == []


@pytest.mark.parametrize("part", ["out.jpg", "out.jpg.json", "artifacts/"])
async def test_a_store_that_fails_in_the_middle_fails_the_execution(on: Site, part: str) -> None:
    on.store.refuses = {part: StorageFull("no room")}
    request = on.request(step("a", persist="ALWAYS"), step("b", "filter", "a"))

    with pytest.raises(StorageFull):
        await on.execute(with_output(request, "out.jpg"))

    record = await on.record()
    assert (record.status, record.error.reason, record.final_output_path) == (
        Execution.FAILED,
        "STORAGE_FULL",
        "",
    )


async def test_an_intermediate_that_cannot_be_stored_does_not_hide_why_the_run_failed(
    on: Site, caplog: pytest.LogCaptureFixture
) -> None:
    on.store.refuses = {"artifacts/": Unavailable("gone")}
    on.at.caller.script = {"b": [InvalidImage("x")]}
    request = on.request(step("a", persist="ON_FAILURE"), step("b", "filter", "a"))

    done = await on.execute(request)

    assert done.error.reason == "INVALID_IMAGE"
    assert lines(caplog, "artifact.not_written") == [{"execution_id": "e", "error_type": "UNAVAILABLE"}]


async def test_a_bug_of_ours_closes_the_record_and_tells_nothing(on: Site) -> None:
    on.store.refuses = {"out.jpg": ZeroDivisionError("/secret")}

    with pytest.raises(ZeroDivisionError):
        await on.execute(on.request(step("a"), output_path="out.jpg"))

    record = await on.record()
    assert (record.status, record.error.code, record.error.message) == (Execution.FAILED, "INTERNAL", "internal error")


async def test_an_execution_whose_caller_goes_away_is_cancelled_and_its_images_are_gone(on: Site) -> None:
    """R54"""
    on.at.caller.script = {"b": [never]}
    request = on.request(step("a", persist="ON_FAILURE"), step("b", "filter", "a"))
    executing = asyncio.create_task(on.execute(request))
    await eventually(lambda: on.at.caller.running == {"b"})

    executing.cancel()
    await asyncio.wait([executing])

    assert executing.cancelled()
    record = await on.record()
    assert (record.status, record.error.reason) == (Execution.CANCELLED, "CLIENT_WENT_AWAY")
    assert on.at.caller.cancelled == ["b"]


@pytest.mark.parametrize(
    ("held", "expected"), [("artifacts/default/e/a", Execution.CANCELLED), ("out.jpg", Execution.CANCELLED)]
)
async def test_a_caller_who_goes_away_while_something_is_stored_leaves_a_closed_record(
    on: Site, held: str, expected: Execution.State
) -> None:
    on.store.holds = held
    request = on.request(step("a", persist="ALWAYS"), step("b", "filter", "a"))
    executing = asyncio.create_task(on.execute(with_output(request, "out.jpg")))
    on_disk = on.store
    while not (await on_disk.list(held)).items:  # noqa: ASYNC110 - it asks the store
        await asyncio.sleep(0.002)

    executing.cancel()
    await asyncio.wait([executing])

    assert (await on.record()).status == expected


async def test_a_caller_who_goes_away_while_the_record_is_created_leaves_a_closed_one(
    on: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    create = on.records.create

    async def slow(record: ExecutionRecord, *, pending: bool) -> Any:
        entered.set()
        await go_on.wait()
        return await create(record, pending=pending)

    monkeypatch.setattr(on.records, "create", slow)
    executing = asyncio.create_task(on.execute(on.request(step("a"))))
    await entered.wait()

    executing.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([executing])

    assert executing.cancelled()
    assert (await on.record()).status == Execution.CANCELLED


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("../in.jpg", ""),
        (".imageflow/x", ""),
        ("in.jpg", ".imageflow/records/default/x"),
        ("in.jpg", "a//b"),
        ("in.jpg", "x" * 253),
    ],
)
async def test_a_key_that_is_none_is_refused_before_anything_is_stored(on: Site, source: str, destination: str) -> None:
    with pytest.raises(InvalidKey):
        await on.execute(on.request(step("a"), input_path=source, output_path=destination))

    assert await on.keys(".imageflow/") == []


async def test_each_execution_is_one_line_of_the_log_with_its_paths(on: Site, caplog: pytest.LogCaptureFixture) -> None:
    """R62"""
    caplog.set_level(logging.INFO)

    await on.execute(on.request(step("a"), output_path="out.jpg"))
    await on.store.delete(ObjectKey("in.jpg"))
    with pytest.raises(ObjectNotFound):
        await on.execute(on.request(step("a")), "f")

    done, failed = lines(caplog, "execution.finished")
    assert done.pop("processing_time_seconds") > 0
    assert done == {
        "execution_id": "e",
        "pipeline_id": "p",
        "status": "COMPLETED",
        "input_path": "in.jpg",
        "output_path": "out.jpg",
    }
    assert (failed["execution_id"], failed["status"], failed["error_type"]) == ("f", "FAILED", "OBJECT_NOT_FOUND")


async def test_an_image_in_hand_is_processed_and_nothing_but_a_failure_is_recorded(on: Site) -> None:
    on.at.caller.script = {"a": [find, InvalidImage("x")]}
    request = on.request(step("a", "detect"), step("b", "filter", "a"))

    done = await on.engine.process(
        on.planner.given(request.pipeline, {}), JPEG, "image/jpeg", Requested(execution_id="e")
    )
    failed = await on.engine.process(on.planner.given(request.pipeline, {}), JPEG, "", Requested(execution_id="f"))

    assert (done.data, done.media_type) == (b"b#1", "image/jpeg")
    assert (failed.data, failed.execution.error.reason) == (b"", "INVALID_IMAGE")
    assert await on.keys() == []
    found, _ = await on.records.page("default", page_size=9, page_token=None)
    assert [each.execution_id for each in found] == ["f"]
    assert found[0].results["a"].error.reason == "INVALID_IMAGE"


async def test_an_answer_does_not_wait_for_a_record_that_cannot_be_written(on: Site) -> None:
    """Best effort."""
    on.at.caller.script = {"a": [InvalidImage("x")]}
    on.store.refuses = {"records": Unavailable("gone")}

    failed = await on.engine.process(on.planner.given(on.request().pipeline, {}), JPEG, "", Requested())

    assert failed.execution.error.reason == "INVALID_IMAGE"


async def test_what_the_output_step_did_not_encode_is_encoded_here(on: Site) -> None:
    on.at.caller.script = {"b": [InvalidImage("x")]}
    request = on.request(step("a"), step("b", "filter", "a", onFailure="SKIP"))

    done = await on.engine.process(on.planner.given(request.pipeline, {}), JPEG, "", Requested(output_format="png"))

    assert done.media_type == "image/png"
    assert decode(done.data).array.tobytes() == b"a#1"


async def test_an_image_in_hand_is_weighed_by_its_bytes(on: Site) -> None:
    """R75"""
    gate = Gate()
    on.at.caller.script = {"a": [gate]}
    on.engine.admission = Admission(max_running=9, max_waiting=9, max_bytes=len(JPEG))
    plan = on.planner.given(on.request().pipeline, {})
    first = asyncio.create_task(on.engine.process(plan, JPEG, "", Requested()))
    await eventually(lambda: len(on.at.caller.calls) == 1)

    with pytest.raises(Overloaded, match="bytes are in flight"):
        await on.engine.process(plan, JPEG, "", Requested())

    gate.open()
    assert (await first).execution.status == Execution.COMPLETED
