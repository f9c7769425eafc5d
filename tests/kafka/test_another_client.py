"""What a client of another make, librdkafka, sees of our messages, and what we make of its."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from jsonschema import Draft202012Validator
from orchestrator_served import Served, picture, served

from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics
from imageflow_orchestrator.news import TOPICS

from .office import SCHEMAS, eventually, request


@pytest.fixture
async def orchestrator(tmp_path: Path, kafka_settings: KafkaSettings) -> AsyncIterator[Served]:
    create_topics(kafka_settings, TOPICS)
    async with served(tmp_path, kafka_settings) as one:
        await one.upload("in.png", picture())
        yield one


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "snappy", "zstd"])
async def test_requests_of_another_client_are_run_and_it_reads_what_is_told(
    orchestrator: Served, kafka_settings: KafkaSettings, compression: str
) -> None:
    """R40 R42: keyed by the execution, in the published form, with the headers that the documentation names."""
    ours = [f"{compression}-{number}" for number in range(20)]
    producer = Producer({**address(kafka_settings), "compression.type": compression, "enable.idempotence": True})
    for execution_id in ours:
        producer.produce(
            kafka_settings.topic("pipeline-executions"), json.dumps(request(execution_id)), key=execution_id
        )
    assert producer.flush(30) == 0

    read = await eventually(lambda: len(found := everything(kafka_settings, "pipeline-completions")) >= 20 and found)

    schema = Draft202012Validator(json.loads((SCHEMAS / "completion.schema.json").read_text()))
    for message in read:
        told = json.loads(message.value())
        headers = dict(message.headers())
        schema.validate(told)
        assert told["status"] == "completed"
        assert message.key().decode() == told["execution_id"]
        assert (headers["content-type"], headers["imageflow-schema-version"]) == (b"application/json", b"1")
    assert sorted(message.key().decode() for message in read) == sorted(ours)


async def test_the_progress_of_an_execution_is_in_one_partition_in_order(
    orchestrator: Served, kafka_settings: KafkaSettings
) -> None:
    """R41: a reader of one partition sees the events of an execution by their numbers, each once."""
    producer = Producer(address(kafka_settings))
    ours = [f"e-{number}" for number in range(20)]
    for execution_id in ours:
        producer.produce(kafka_settings.topic("pipeline-executions"), json.dumps(request(execution_id)))
    assert producer.flush(30) == 0
    await eventually(lambda: len(everything(kafka_settings, "pipeline-completions")) >= len(ours))

    seen: dict[str, list[tuple[int, int]]] = {}
    for message in everything(kafka_settings, "pipeline-progress"):
        number = int(dict(message.headers())["imageflow-event-number"])
        seen.setdefault(message.key().decode(), []).append((message.partition(), number))
    assert sorted(seen) == sorted(ours)
    for events in seen.values():
        assert len({partition for partition, _ in events}) == 1
        numbers = [number for _, number in events]
        assert numbers == sorted(set(numbers))


def address(settings: KafkaSettings) -> dict[str, str]:
    return {"bootstrap.servers": settings.bootstrap_servers}


def everything(settings: KafkaSettings, topic: str) -> list[Any]:
    """Every record of a topic, each partition from its beginning to where it ends now."""
    reader = Consumer({**address(settings), "group.id": "not-committed", "enable.auto.commit": False})
    try:
        name = settings.topic(topic)
        numbers = reader.list_topics(name).topics[name].partitions
        partitions = [TopicPartition(name, number, OFFSET_BEGINNING) for number in numbers]
        ends = sum(reader.get_watermark_offsets(each)[1] for each in partitions)
        reader.assign(partitions)
        records: list[Any] = []
        while len(records) < ends:
            records += [each for each in reader.consume(ends - len(records), 0.2) if each.error() is None]
        return records
    finally:
        reader.close()
