"""Several orchestrators on one store and one broker: any may be asked for anything, one runs each execution (D8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from orchestrator_served import Served, picture, served

from backends.kafka import KafkaServer
from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.execution_service_pb2 import ExecutionEvent, WatchExecutionRequest
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics
from imageflow_orchestrator.news import TOPICS

from .office import RESIZE, Office, eventually, request

WAIT = {"pipelineId": "w", "steps": [{"stepId": "hold", "componentName": "wait"}]}


@pytest.fixture
async def pair(tmp_path: Path, kafka_settings: KafkaSettings) -> AsyncIterator[tuple[Served, Served, Office]]:
    """Two that each hold a part of the topic."""
    create_topics(kafka_settings, TOPICS)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(served(tmp_path, kafka_settings))
        other = await stack.enter_async_context(served(tmp_path, kafka_settings))
        await one.upload("in.png", picture())
        office = Office(kafka_settings)
        stack.callback(office.close)
        await eventually(lambda: all(any(holds(each, name) for name in NAMES) for each in (one, other)))
        yield one, other, office


NAMES = [f"e-{number}" for number in range(20)]


def holds(each: Served, execution_id: str) -> bool:
    assert each.orchestrator.shared_queue is not None
    return each.orchestrator.shared_queue.holds(execution_id)


def held_by(holder: Served) -> str:
    return next(name for name in NAMES if holds(holder, name))


async def create(at: Served, execution_id: str, pipeline: Any = RESIZE) -> Execution:
    body = {"pipeline": pipeline, "inputPath": "in.png", "executionId": execution_id}
    answer: Execution = await at.json("ExecutionService/CreateExecution", body)
    return answer


async def watch(at: Served, execution_id: str, seen: list[ExecutionEvent]) -> None:
    method = at.channel.unary_stream(
        "/imageflow.v1.ExecutionService/WatchExecution",
        WatchExecutionRequest.SerializeToString,
        ExecutionEvent.FromString,
    )
    async for event in method(WatchExecutionRequest(execution_id=execution_id), timeout=30):
        seen.append(event)


async def test_what_one_accepts_the_other_runs_and_either_tells_of_it(pair: tuple[Served, Served, Office]) -> None:
    one, other, office = pair
    theirs = held_by(other)
    events: list[ExecutionEvent] = []
    await create(one, theirs, WAIT)
    watching = asyncio.create_task(watch(one, theirs, events))
    await eventually(lambda: other.lock.entered.is_set() and events)
    assert one.orchestrator.executions.live("default", theirs) is None
    standing = await one.call("ExecutionService/GetExecution", execution_id=theirs)
    assert standing.status == Execution.RUNNING
    other.lock.opened.set()
    await watching
    assert events[-1].terminal
    assert events[-1].execution.status == Execution.COMPLETED
    assert "hold" in [event.step_id for event in events]  # heard across the broker
    listed = await one.call("ExecutionService/ListExecutions", page_size=10)
    assert [each.execution_id for each in listed.executions] == [theirs]
    told = await eventually(lambda: office.completions().get(theirs))
    assert [each["status"] for each in told] == ["completed"]
    assert office.check_schemas("pipeline-control") == 1


async def test_a_cancel_reaches_the_one_that_runs_it(pair: tuple[Served, Served, Office]) -> None:
    """R54: also an execution whose caller waits at another one."""
    one, other, office = pair
    theirs = held_by(other)
    await create(other, theirs, WAIT)
    await eventually(lambda: other.lock.entered.is_set())
    await one.call("ExecutionService/CancelExecution", execution_id=theirs, message="not needed")
    told = await eventually(lambda: office.completions().get(theirs))
    other.lock.opened.set()
    assert [(each["status"], each["message"]) for each in told] == [("cancelled", "not needed")]


async def test_a_message_without_a_key_is_run_once_wherever_it_lands(pair: tuple[Served, Served, Office]) -> None:
    office = pair[2]
    for name in NAMES:
        office.post(request(name), key=f"another-{name}")
    told = await eventually(lambda: len(found := office.completions()) == len(NAMES) and found)
    assert {name: [each["status"] for each in told[name]] for name in NAMES} == {name: ["completed"] for name in NAMES}


async def test_the_share_of_one_that_leaves_is_run_by_the_other(
    tmp_path: Path, kafka_settings: KafkaSettings, pair: tuple[Served, Served, Office]
) -> None:
    one, _, office = pair
    async with served(tmp_path, kafka_settings) as third:
        await eventually(lambda: any(holds(third, name) for name in NAMES))
        theirs = held_by(third)
        await create(third, theirs, WAIT)
        await eventually(lambda: third.lock.entered.is_set())
        third.orchestrator.executions._stopping = True  # as at SIGTERM, with no time left
    one.lock.opened.set()
    pair[1].lock.opened.set()
    told = await eventually(lambda: office.completions().get(theirs))
    assert [each["status"] for each in told] == ["completed"]


async def test_what_ends_while_the_broker_is_away_is_told_when_it_is_back(
    tmp_path: Path, kafka_settings: KafkaSettings, kafka_server: KafkaServer
) -> None:
    """Also by an orchestrator that was started meanwhile: the marker in the store says what is still to be told."""
    settings = kafka_settings.model_copy(
        update={"bootstrap_servers": kafka_server.bootstrap_servers, "timeout_seconds": 1.0}
    )
    create_topics(settings, TOPICS)
    try:
        async with served(tmp_path, settings) as first:
            await first.upload("in.png", picture())
            await eventually(lambda: holds(first, "before"))
            kafka_server.kill()
            for name in ("asked", "waited-for"):
                body = {"pipeline": RESIZE, "inputPath": "in.png", "executionId": name}
                method = "PipelineService/Execute" if name == "waited-for" else "ExecutionService/Create"
                await first.json(f"{method}{'Pipeline' if name == 'waited-for' else 'Execution'}", body)
            ended = [await first.orchestrator.executions.until_ended("default", n) for n in ("asked", "waited-for")]
            assert [each.status for each in ended] == [Execution.COMPLETED] * 2
            readiness = await first.call("SystemService/GetReadiness")
            assert readiness.degraded == ["Kafka is not reachable: what is to be told waits"]
            markers = [marker async for marker in first.orchestrator.executions._records.pending()]
            assert len(markers) == 2
        async with served(tmp_path, settings):
            kafka_server.start()
            office = Office(kafka_settings.model_copy(update={"bootstrap_servers": settings.bootstrap_servers}))
            told = await eventually(lambda: len(found := office.completions()) == 2 and found)
            office.close()
    finally:
        kafka_server.start()
    assert {name: [each["status"] for each in said] for name, said in told.items()} == {
        "asked": ["completed"],
        "waited-for": ["completed"],
    }
