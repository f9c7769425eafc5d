"""R40 R42 R43: a message runs a pipeline against images in the store; what cannot be run is set aside, and told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from orchestrator_served import Served, picture, served

from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics
from imageflow_orchestrator.news import TOPICS

from .office import RESIZE, Office, eventually, reasons, request

ERRORS = Path(__file__).parents[2] / "docs" / "errors.md"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@dataclass
class Running:
    served: Served
    office: Office

    async def completion(self, execution_id: str) -> dict[str, Any]:
        told = await eventually(lambda: self.office.completions().get(execution_id))
        assert len(told) == 1
        return dict(told[0])


@pytest.fixture
async def running(tmp_path: Path, kafka_settings: KafkaSettings) -> AsyncIterator[Running]:
    create_topics(kafka_settings, TOPICS)
    async with served(tmp_path, kafka_settings) as one:
        await one.upload("in.png", picture())
        office = Office(kafka_settings)
        yield Running(one, office)
        office.close()


async def test_a_message_runs_a_pipeline_and_its_progress_and_completion_are_told(running: Running) -> None:
    """R40 R41 R42 R43, R60: the trace of the message goes on in what is told."""
    wanted = request("e-1", parameters={"small.width": 64}, input_data={"input_path": "in.png", "output_path": "out"})
    running.office.post(wanted, headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})

    told = await running.completion("e-1")

    assert (told["status"], told["output_path"]) == ("completed", "out")
    assert running.office.check_schemas("pipeline-executions", "pipeline-progress", "pipeline-completions") >= 6
    [record] = running.office.read("pipeline-completions")
    headers = {name: value.decode() for name, value in record.headers}
    assert record.key == b"e-1"
    assert headers["content-type"] == "application/json"
    assert headers["imageflow-schema-version"] == "1"
    assert TRACE in headers["traceparent"]
    execution = await running.served.call("ExecutionService/GetExecution", execution_id="e-1")
    assert execution.status == execution.COMPLETED


async def test_a_stored_pipeline_is_run_by_its_id_alone(running: Running) -> None:
    await running.served.json("PipelineService/CreatePipeline", RESIZE)
    running.office.post(request("stored", pipeline_config={"pipelineId": "p"}))
    assert (await running.completion("stored"))["status"] == "completed"


async def test_the_stream_goes_on_past_what_cannot_be_run(running: Running) -> None:
    """Each is set aside as it came, with its reason; who is named is told of a failure."""
    office = running.office
    for body, _, headers in BAD.values():
        office.post(body, headers=headers)
    office.post(request("good"))
    await running.completion("good")

    dead = await eventually(lambda: len(found := office.dead()) == len(BAD) and found)
    said = {record.value: reason for record, reason in zip(dead, reasons(dead), strict=True)}
    rows = documented()
    for name, (body, word, _) in BAD.items():
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        assert word in said[data], (name, said[data])
        assert said[data].startswith(f"{rows[name][1]}: "), (name, said[data])
    completions = office.completions()
    named = [body["execution_id"] for name, (body, _, _) in BAD.items() if "completion" in rows[name][0]]
    assert set(completions) == {*named, "good"}
    assert {name: [each["status"] for each in completions[name]] for name in named} == {
        name: ["failed"] for name in named
    }
    office.check_schemas("pipeline-completions")


def documented() -> dict[str, tuple[str, str]]:
    """Of each kind of message what becomes of it, and the reason."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `?([^`|]+)`? \|$", ERRORS.read_text(), re.M)
    return {name: (fate, reason) for name, fate, reason in rows}


_UNKNOWN_COMPONENT = {"pipelineId": "p", "steps": [{"stepId": "a", "componentName": "sharpen-o-matic"}]}
BAD: dict[str, tuple[Any, str, dict[str, str]]] = {
    "empty": (b"", "the message is empty", {}),
    "not JSON": (b"{execution", "not JSON", {}),
    "not UTF-8": (b"\xff\xfe", "not JSON", {}),
    "not an object": (b"[1, 2]", "object", {}),
    "no id": ({"pipeline_config": RESIZE}, "execution_id is not an id", {}),
    "an id that is none": ({"execution_id": "../../etc", "pipeline_config": RESIZE}, "is not an id", {}),
    "an id of a wrong type": ({"execution_id": 7, "pipeline_config": RESIZE}, "is not an id", {}),
    "a definition of a wrong type": (request("b-1", pipeline_config="resize"), "pipeline_config", {}),
    "inputs of a wrong type": (request("b-2", input_data=["in.png"]), "input_data", {}),
    "a key of a wrong type": (request("b-3", input_data={"input_path": 7}), "input_data.input_path", {}),
    "parameters of a wrong type": (request("b-4", parameters=7), "parameters", {}),
    "no such parameter": (request("b-5", parameters={"small.colour": 7}), "colour", {}),
    "no such pipeline": (request("b-6", pipeline_config={"pipelineId": "nobody"}), "nobody", {}),
    "no such component": (request("b-7", pipeline_config=_UNKNOWN_COMPONENT), "sharpen-o-matic", {}),
    "a field within the definition": (request("b-8", pipeline_config={**RESIZE, "stepz": 1}), "stepz", {}),
    "a key outside": (request("b-9", input_data={"input_path": "../secret"}), "", {}),
    "a key of ours": (request("b-10", input_data={"input_path": ".imageflow/records/x"}), "", {}),
    "no key": (request("b-11", input_data={}), "inputPath", {}),
    "another version": (request("b-12"), "'2'", {"imageflow-schema-version": "2"}),
    "another type": (request("b-13"), "protobuf", {"content-type": "application/protobuf"}),
}


async def test_an_object_that_is_missing_fails_its_execution_and_is_no_dead_letter(running: Running) -> None:
    running.office.post(request("missing", input_data={"input_path": "gone.png"}))
    told = await running.completion("missing")
    assert told["status"] == "failed"
    assert running.office.dead() == []


async def test_the_same_message_a_thousand_times_is_one_execution(running: Running) -> None:
    """And one completion; every duplicate is acknowledged, none is a dead letter."""
    producer = running.office._producer
    topic = running.office._settings.topic("pipeline-executions")
    body = json.dumps(request("again")).encode()
    for number in range(1_000):
        producer.send(topic, body, b"%d" % (number % 7))
    await asyncio.to_thread(producer.flush, 30)
    running.office.post(request("last"))
    await running.completion("again")
    await running.completion("last")
    await eventually(lambda: _committed(running.office) == 1_001, within=90)
    told = [record for record in running.office.read("pipeline-completions") if record.key == b"again"]
    assert len(told) == 1
    assert running.office.dead() == []


async def test_an_id_that_is_taken_by_another_request_is_set_aside_and_told_to_nobody(running: Running) -> None:
    running.office.post(request("taken"), key="taken")
    running.office.post(request("taken", parameters={"small.width": 7}), key="taken")
    told = await running.completion("taken")
    [dead] = await eventually(running.office.dead)
    assert told["status"] == "completed"
    assert "EXECUTION_EXISTS" in reasons([dead])[0]
    assert len(running.office.completions()["taken"]) == 1


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {"timestamp_ms": 0}),
        ({"timestamp": "1970-01-01T00:00:00Z", "priority": 7, "nested": {"a": [1]}}, {}),
        ({"input_data": {"input_path": "in.png", "bucket": "other"}}, {}),
    ],
    ids=["sent in 1970", "fields that are not known", "fields of the input that are not known"],
)
async def test_what_is_not_known_is_passed_over(
    running: Running, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    running.office.post(request("odd", **fields), **options)
    assert (await running.completion("odd"))["status"] == "completed"


def _committed(office: Office) -> int:
    from kafka import KafkaConsumer, TopicPartition

    settings = office._settings
    consumer = KafkaConsumer(**settings.client_options(), group_id=settings.group_id, enable_auto_commit=False)
    try:
        name = settings.topic("pipeline-executions")
        return sum(consumer.committed(TopicPartition(name, each)) or 0 for each in range(settings.partitions))
    finally:
        consumer.close()
