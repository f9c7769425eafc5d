"""A stranger to the product who has a client of Kafka: sends requests as bytes, and reads every message of a topic."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from imageflow_common.kafka_settings import KafkaSettings

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
SCHEMA_OF = {
    "pipeline-progress": "progress",
    "pipeline-completions": "completion",
    "pipeline-control": "control",
    "pipeline-executions": "request",
}
RESIZE = {"pipelineId": "p", "version": "1", "steps": [{"stepId": "small", "componentName": "resize"}]}


class Office:
    """Nothing of ours but the settings."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Any = KafkaProducer(**settings.client_options())

    def post(
        self, body: object, *, key: str | None = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._producer.send(
            self._settings.topic("pipeline-executions"),
            data,
            key.encode() if key else None,
            [(name, value.encode()) for name, value in (headers or {}).items()],
            **options,
        ).get(timeout=10)

    def read(self, topic: str) -> list[Any]:
        """Every record of a topic."""
        consumer = KafkaConsumer(**self._settings.client_options(), enable_auto_commit=False)
        try:
            name = self._settings.topic(topic)
            partitions = [TopicPartition(name, each) for each in consumer.partitions_for_topic(name)]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            left = sum(consumer.end_offsets(partitions).values())
            records: list[Any] = []
            while len(records) < left:
                for polled in consumer.poll(timeout_ms=200).values():
                    records += polled
            return records
        finally:
            consumer.close()

    def completions(self) -> dict[str, list[dict[str, Any]]]:
        """Of each execution the completions, one for each event number."""
        told: dict[str, dict[bytes, dict[str, Any]]] = {}
        for record in self.read("pipeline-completions"):
            said = json.loads(record.value)
            told.setdefault(said["execution_id"], {})[dict(record.headers)["imageflow-event-number"]] = said
        return {execution_id: list(each.values()) for execution_id, each in told.items()}

    def dead(self) -> list[Any]:
        return self.read("pipeline-executions-dlq")

    def check_schemas(self, *topics: str) -> int:
        """Validates every message of the topics; answers how many there were."""
        count = 0
        for topic in topics:
            validator = Draft202012Validator(json.loads((SCHEMAS / f"{SCHEMA_OF[topic]}.schema.json").read_text()))
            for record in self.read(topic):
                validator.validate(json.loads(record.value))
                count += 1
        return count

    def close(self) -> None:
        self._producer.close(timeout=1)


def request(execution_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "execution_id": execution_id,
        "pipeline_config": RESIZE,
        "input_data": {"input_path": "in.png"},
        "parameters": {},
        **fields,
    }


async def eventually(holds: Callable[[], Any], *, within: float = 30.0) -> Any:
    async with asyncio.timeout(within):
        while not (found := await asyncio.to_thread(holds)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return found


def reasons(dead: Sequence[Any]) -> list[str]:
    return [dict(record.headers)["imageflow-dlq-reason"].decode() for record in dead]
