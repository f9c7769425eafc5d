"""The schemas of docs/schemas are those of what is published, and of the examples in the documentation."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.events import Event, LocalEvents
from imageflow_orchestrator.news import COMPLETION_TOPIC, PROGRESS_TOPIC, News

DOCS = Path(__file__).resolve().parents[2] / "docs"
TOPICS = {"progress": PROGRESS_TOPIC, "completion": COMPLETION_TOPIC}
EXAMPLES = (*TOPICS, "request")


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((DOCS / "schemas" / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


async def published(status: str) -> dict[str, list[Any]]:
    """What an execution tells that ends so, by the schema's name."""
    execution = Execution(execution_id="e-1", namespace="default", status="RUNNING", execution_time_ms=81.5)
    execution.results["a"].processing_time_ms = 40
    execution.end_time.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC))
    events = LocalEvents()
    news = News(events, execution)
    async with AsyncExitStack() as stack:
        topics = {name: await stack.enter_async_context(events.subscribe(topic)) for name, topic in TOPICS.items()}
        news.progress("", "RUNNING")
        for state in ("RUNNING", "COMPLETED", "FAILED", "SKIPPED", "CANCELLED"):
            news.progress("a", state, "why")
        execution.status = Execution.State.Value(status)
        execution.error.message = "" if status == "COMPLETED" else "it broke"
        execution.last_event_number += 2
        news.completion()
        await news.flush()
        await events.close()
        heard = {name: [each async for each in topic] for name, topic in topics.items()}
    return {name: [json.loads(each.body) for each in told if isinstance(each, Event)] for name, told in heard.items()}


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELLED"])
async def test_what_is_published_is_what_the_schemas_say(status: str) -> None:
    """R40 R41 R42"""
    told = await published(status)
    assert (len(told["progress"]), len(told["completion"])) == (7, 1)
    for name, messages in told.items():
        for message in messages:
            validator(name).validate(message)
    (completion,) = told["completion"]
    assert (completion["status"], completion["execution_time"]) == (status.lower(), 0.0815)
    assert completion["completed_at"] == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("name", TOPICS)
async def test_a_schema_knows_every_field_and_no_other(name: str) -> None:
    message = (await published("COMPLETED"))[name][0]
    with pytest.raises(ValidationError):
        validator(name).validate({**message, "image": "bytes"})
    for field in message:
        with pytest.raises(ValidationError):
            validator(name).validate({key: value for key, value in message.items() if key != field})


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_the_page_is_such_a_message(name: str) -> None:
    text = (DOCS / "executions.md").read_text()
    blocks = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.M | re.S)]
    fields = set(validator(name).schema["properties"])
    (example,) = [block for block in blocks if set(block) == fields]
    validator(name).validate(example)
