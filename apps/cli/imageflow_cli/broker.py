"""A client of the broker: sends requests, reads dead letters, hears what all executions tell."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.settings import load_settings

from .exits import UsageFault

if TYPE_CHECKING:
    from imageflow_common.events import Event
    from imageflow_common.kafka_dead_letters import Buried

REQUESTS = "pipeline-executions"
PROGRESS = "pipeline-progress"
COMPLETIONS = "pipeline-completions"
_HEADERS = {"content-type": "application/json", "imageflow-schema-version": "1"}


def broker_settings(servers: str | None) -> KafkaSettings:
    """Those of the environment, with the servers that were named. Raises UsageFault without any, or without a client of
    Kafka."""
    settings = load_settings(KafkaSettings)
    if servers:
        settings = settings.model_copy(update={"bootstrap_servers": servers})
    if not settings.bootstrap_servers:
        raise UsageFault("which broker? Give --kafka HOST:PORT, or set IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS")
    try:
        import kafka  # noqa: F401 - is it there?
    except ModuleNotFoundError as exc:
        raise UsageFault("this needs kafka-python: pip install 'imageflow-common[kafka]'") from exc
    return settings


async def send_request(settings: KafkaSettings, request: Mapping[str, Any], namespace: str) -> None:
    """Returns when the broker has it. Raises Unavailable, InvalidArgument, PermissionDenied."""
    from imageflow_common.kafka_sender import Outgoing, write_headers

    body = json.dumps(request, ensure_ascii=False).encode()
    headers = {**_HEADERS, **({"imageflow-namespace": namespace} if namespace else {})}
    key = str(request["execution_id"]).encode()
    await _send(settings, Outgoing(settings.topic(REQUESTS), key, body, write_headers(headers)))


async def send_again(settings: KafkaSettings, letter: Buried) -> None:
    """As it came first. Raises UsageFault for one whose body was not kept, and as `send_request`."""
    from imageflow_common.kafka_sender import Outgoing

    if letter.left_out:
        raise UsageFault(f"{letter.place}: its body was too large to be kept; send it anew")
    await _send(settings, Outgoing(settings.topic(REQUESTS), letter.key, letter.body, letter.headers))


async def _send(settings: KafkaSettings, message: Any) -> None:
    from imageflow_common.kafka_sender import KafkaSender

    sender = KafkaSender(settings)
    try:
        await sender.send(message)
    finally:
        await sender.close()


@dataclass(frozen=True, slots=True)
class Told:
    """Something that an execution told: `completion`, or progress of it or of one of its steps."""

    completion: bool
    body: dict[str, Any]


@asynccontextmanager
async def listening(settings: KafkaSettings) -> AsyncIterator[AsyncIterator[Told]]:
    """What all executions tell from now on. Raises Unavailable."""
    import asyncio

    from imageflow_common.events import Event
    from imageflow_common.kafka_events import KafkaEvents
    from imageflow_common.kafka_sender import KafkaSender

    sender = KafkaSender(settings)
    events = KafkaEvents(settings, sender, queue_size=10_000)
    heard: asyncio.Queue[Told] = asyncio.Queue()

    async def hear(news: AsyncIterator[Any], *, completion: bool) -> None:
        async for each in news:
            if isinstance(each, Event) and (body := _read(each)) is not None:
                heard.put_nowait(Told(completion, body))

    async def all_told() -> AsyncIterator[Told]:
        while True:
            yield await heard.get()

    try:
        async with events.subscribe(PROGRESS) as progress, events.subscribe(COMPLETIONS) as completions:
            tasks = [
                asyncio.create_task(hear(progress, completion=False)),
                asyncio.create_task(hear(completions, completion=True)),
            ]
            try:
                yield all_told()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await events.close()
        await sender.close()


def _read(event: Event) -> dict[str, Any] | None:
    try:
        body = json.loads(event.body)
    except ValueError:
        return None
    return body if isinstance(body, dict) and "execution_id" in body else None
