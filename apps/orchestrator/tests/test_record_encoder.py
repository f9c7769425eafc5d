"""A record as JSON: what it says is what protobuf's own says, whatever changed since it was written last."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_orchestrator import record_encoder as module
from imageflow_orchestrator.record_encoder import RecordEncoder


def record(steps: int) -> ExecutionRecord:
    made = ExecutionRecord(schema_version=1, revision=7, kind=ExecutionRecord.BATCH, request_sha256='é"\\\n')
    made.execution.execution_id, made.execution.reused_steps[:] = "e", ["a", "b"]
    made.execution.create_time.GetCurrentTime()
    made.execution.timings.queue_ms = 1.5
    made.request.pipeline.pipeline_id, made.request.input_path = "p", "ünder/in.jpg"
    for number in range(steps):
        change(made, f"s{number}", number)
    return made


def change(made: ExecutionRecord, step_id: str, number: int) -> None:
    made.execution.results[step_id].step_id = step_id
    made.execution.results[step_id].attempts = number
    made.execution.results[step_id].metadata.update({"found": [number, {"é": None}]})
    made.steps[step_id].metadata = bytes([number % 256])
    made.steps[step_id].attempts = number


def said(encoder: RecordEncoder, made: ExecutionRecord) -> Any:
    return json.loads(encoder.encode(made))


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_record_says_what_protobufs_own_json_says(steps: int) -> None:
    made = record(steps)
    assert ParseDict(said(RecordEncoder(), made), ExecutionRecord()) == made
    if steps:
        assert said(RecordEncoder(), made) == MessageToDict(made)


def test_an_empty_record_is_one() -> None:
    assert ParseDict(said(RecordEncoder(), ExecutionRecord()), ExecutionRecord()).execution.execution_id == ""


def test_whatever_changes_between_two_writes_is_in_the_second() -> None:
    random, encoder, made = Random(1), RecordEncoder(), record(6)
    for turn in range(50):
        match random.randrange(5):
            case 0:
                change(made, f"s{random.randrange(8)}", turn)
            case 1:
                made.execution.results.pop(f"s{random.randrange(8)}", None)
            case 2:
                made.steps.pop(f"s{random.randrange(8)}", None)
            case 3:
                made.execution.status, made.revision = turn % 5, turn
            case 4:
                made.request.output_path = f"out/{turn}"
        assert ParseDict(said(encoder, made), ExecutionRecord()) == made


def test_a_step_that_did_not_change_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    text = module._text

    def counted(message: Any) -> str:
        encoded.append(type(message).__name__)
        return text(message)

    monkeypatch.setattr(module, "_text", counted)
    encoder, made = RecordEncoder(), record(100)
    encoder.encode(made)
    encoded.clear()
    change(made, "s50", 7)
    encoder.encode(made)
    assert sorted(encoded) == ["Execution", "ExecutionRecord", "RecordedStep", "StepOutcome"]
