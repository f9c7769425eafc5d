"""PipelineService.ProcessImage: an image in, an image out, over real servers and a real store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from orchestrator_calls import CHAIN, COINS, CREATE, PROCESS, definition, image
from orchestrator_scripted import eventually, step
from orchestrator_served import Served, picture, refused, served

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import (
    ImageFlowError,
    InvalidArgument,
    InvalidImage,
    NotFound,
    Overloaded,
)
from imageflow_common.images import decode, probe


async def test_a_caller_of_process_who_goes_away_frees_the_slot(tmp_path: Path) -> None:
    """R54, R75"""
    async with served(tmp_path, max_running_executions=1, max_waiting_executions=1) as at:
        await at.json(CREATE, definition(step("a", "wait")))
        await at.json(CREATE, CHAIN | {"pipelineId": "chain"})
        call = at.start(PROCESS, pipeline_id="p", body=image())
        waiting = asyncio.ensure_future(call)
        await eventually(at.lock.entered.is_set)

        call.cancel()
        await asyncio.wait([waiting])

        assert (await at.call(PROCESS, pipeline_id="chain", body=image())).content_type == "image/png"


async def test_an_image_goes_in_and_an_image_comes_out(at: Served) -> None:
    """R4, R13, R21: with what was found in the headers."""
    await at.json(CREATE, CHAIN)

    answer: HttpBody = await at.call(PROCESS, pipeline_id="p", set=["coins.maxDetections=3"], body=image())

    assert answer.content_type == "image/png"
    assert probe(answer.data).width == 64
    headers = at.initial_metadata
    timing = str(headers["server-timing"])
    assert [part.partition(";")[0] for part in timing.split(", ")] == [
        "total", "overhead", "queue", "plan", "small", "coins", "soft",
    ]  # fmt: skip
    found = json.loads(headers["imageflow-detections"])
    assert headers["imageflow-detection-count"] == str(len(found)) == "3"
    assert set(found[0]) == {"stepId", "label", "confidence", "box", "inputBox"}
    error = await refused(
        lambda: at.call("ExecutionService/GetExecution", execution_id=headers["imageflow-execution-id"])
    )
    assert isinstance(error, NotFound)


async def test_detections_that_do_not_fit_a_header_are_cut_and_counted(at: Served) -> None:
    await at.json(CREATE, CHAIN)

    await at.call(PROCESS, pipeline_id="p", set=["coins.nmsThreshold=1"], body=image())

    text = str(at.initial_metadata["imageflow-detections"])
    assert len(text) <= 4_096
    assert 0 < len(json.loads(text)) < int(str(at.initial_metadata["imageflow-detection-count"]))


async def test_what_a_fallback_of_another_kind_found_is_not_taken_for_detections(at: Served) -> None:
    """R52"""
    fallback = {"componentName": "filter"}
    look = step("look", "detect", parameters={"modelName": "nothing"}, onFailure="FALLBACK", fallback=fallback)
    await at.json(CREATE, definition(look))

    answer = await at.call(PROCESS, pipeline_id="p", body=image())

    assert probe(answer.data).width == 320
    assert at.initial_metadata["imageflow-detections"] == "[]"


async def test_a_looker_alone_answers_the_image_it_looked_at(at: Served) -> None:
    await at.json(CREATE, definition(step("look", "detect", parameters=COINS)))

    answer = await at.call(PROCESS, pipeline_id="p", body=image())

    assert decode(answer.data).array.tobytes() == decode(picture()).array.tobytes()


async def test_an_output_step_in_the_middle_is_answered_encoded(at: Served) -> None:
    """R13"""
    steps = (step("a", "resize", parameters={"width": 50}), step("b", "resize", "a", parameters={"width": 20}))
    await at.json(CREATE, definition(*steps, outputStep="a"))

    answer = await at.call(PROCESS, pipeline_id="p", output_format="webp", quality=50, body=image())

    assert (answer.content_type, probe(answer.data).width) == ("image/webp", 50)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"body": image(b"no image")}, "UNSUPPORTED_IMAGE"),
        ({"body": image(b"")}, "INVALID_IMAGE"),
        ({"body": image(picture()[:300])}, "INVALID_IMAGE"),
        ({"body": image(content_type="image/jpeg")}, "UNSUPPORTED_IMAGE"),
        ({"body": image(), "set": ["coins.modelName=nothing"]}, "MODEL_NOT_FOUND"),
        ({"body": image(), "set": ["soft.filterType=blur"]}, "INVALID_PIPELINE"),
        ({"body": image(), "set": ["soft.filterType"]}, "INVALID_ARGUMENT"),
        ({"body": image(), "output_format": "gif"}, "INVALID_ARGUMENT"),
        ({"body": image(), "version": "9"}, "PIPELINE_NOT_FOUND"),
        ({"body": image(), "pipeline_id": "nothing"}, "PIPELINE_NOT_FOUND"),
        ({"body": image(), "pipeline_id": "../x"}, "INVALID_KEY"),
        ({"body": image(), "execution_id": "a b"}, "INVALID_ARGUMENT"),
    ],
)
async def test_processing_that_cannot_be_is_the_failing_steps_error(
    at: Served, fields: dict[str, Any], reason: str
) -> None:
    """R5"""
    await at.json(CREATE, CHAIN)

    error = await refused(lambda: at.call(PROCESS, **{"pipeline_id": "p", **fields}))

    assert error.reason == reason
    assert not isinstance(error, type(ImageFlowError))


async def test_a_failed_processing_leaves_a_record_that_its_error_names(at: Served) -> None:
    await at.json(CREATE, CHAIN)

    error = await refused(lambda: at.call(PROCESS, pipeline_id="p", body=image(picture()[:300])))

    assert isinstance(error, InvalidImage | InvalidArgument)
    assert error.metadata["stepId"] == "small"
    record = await at.call("ExecutionService/GetExecution", execution_id=error.metadata["executionId"])
    assert record.status == Execution.FAILED


async def test_what_is_too_much_is_told_to_come_back(tmp_path: Path) -> None:
    """R75"""
    async with served(tmp_path, max_running_executions=1, max_waiting_executions=1) as at:
        await at.json(CREATE, definition(step("a", "wait")))
        first = asyncio.create_task(at.call(PROCESS, pipeline_id="p", body=image()))
        await eventually(at.lock.entered.is_set)
        second = asyncio.create_task(at.call(PROCESS, pipeline_id="p", body=image()))
        await eventually(lambda: at.orchestrator.engine.admission.waiting == 1)

        error = await refused(lambda: at.call(PROCESS, pipeline_id="p", body=image()))

        assert isinstance(error, Overloaded)
        assert error.retry_after is not None
        at.lock.opened.set()
        await asyncio.gather(first, second)
