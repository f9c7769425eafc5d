"""A broker that goes away, and comes back: what waits, what is refused, and what goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from backends.kafka import KafkaServer
from imageflow_common.errors import Unavailable
from imageflow_common.events import Event
from imageflow_common.kafka_events import KafkaEvents
from imageflow_common.kafka_sender import KafkaSender, Outgoing
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics
from imageflow_common.kafka_workqueue import KafkaWorkQueue
from imageflow_common.workqueue import Message

KNOWN_SECONDS = 30


@pytest.fixture
def settings(kafka_server: KafkaServer, kafka_settings: KafkaSettings) -> Iterator[KafkaSettings]:
    """A broker that does not answer for a second counts as away. It is there again afterwards."""
    own = {"bootstrap_servers": kafka_server.bootstrap_servers, "timeout_seconds": 1.0, "max_in_flight": 20}
    settings = kafka_settings.model_copy(update=own)
    create_topics(settings, ["news", "work", "work-dlq"])
    yield settings
    if kafka_server.runs_as():
        kafka_server.resume()
    kafka_server.start()


async def sent(sender: KafkaSender, topic: str) -> None:
    """Tries until a message gets through."""
    async with asyncio.timeout(KNOWN_SECONDS):
        while True:
            try:
                return await sender.send(Outgoing(topic, b"k", b"back"))
            except Unavailable:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("fault", ["killed", "stopped"])
async def test_a_broker_that_is_away_refuses_in_time_and_holds_no_more_than_is_in_flight(
    kafka_server: KafkaServer, settings: KafkaSettings, fault: str
) -> None:
    sender, topic = KafkaSender(settings), settings.topic("news")
    await sender.send(Outgoing(topic, b"k", b"before"))
    kafka_server.kill() if fault == "killed" else kafka_server.pause()
    async with asyncio.timeout(KNOWN_SECONDS):
        answers = await asyncio.gather(
            *(sender.send(Outgoing(topic, b"k", b"x" * 1_000)) for _ in range(200)), return_exceptions=True
        )
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert sender.is_away
    kafka_server.start() if fault == "killed" else kafka_server.resume()
    await sent(sender, topic)
    assert not sender.is_away
    await sender.close()


async def test_a_subscriber_goes_on_where_it_was(kafka_server: KafkaServer, settings: KafkaSettings) -> None:
    sender = KafkaSender(settings)
    events = KafkaEvents(settings, sender)
    async with events.subscribe("news", key="e1") as news:
        await events.publish(Event("news", "e1", 1, b"before"))
        assert await anext(news) == Event("news", "e1", 1, b"before")
        kafka_server.kill()
        kafka_server.start()
        await sent(sender, settings.topic("news"))
        await events.publish(Event("news", "e1", 2, b"after"))
        async with asyncio.timeout(KNOWN_SECONDS):
            assert await anext(news) == Event("news", "e1", 2, b"after")
    await events.close()
    await sender.close()


async def test_a_taker_goes_on_and_what_it_acknowledged_is_not_given_again(
    kafka_server: KafkaServer, settings: KafkaSettings
) -> None:
    sender = KafkaSender(settings)
    queue = KafkaWorkQueue(settings, sender, "work")
    for number in range(3):
        await queue.put(Message("e1", b"%d" % number))
    async with asyncio.timeout(KNOWN_SECONDS):
        async with queue.take() as first:
            await first.ack()
        async with queue.take() as second:
            kafka_server.kill()
            kafka_server.start()
            await sent(sender, settings.topic("news"))
            await queue.put(Message("e1", b"3"))
            await second.ack()
        bodies = [b"2", b"3"]
        while bodies:
            async with queue.take() as lease:
                await lease.ack()
                assert lease.message.body in (b"1", *bodies)  # the second may come again: its commit was on the way
                if lease.message.body in bodies:
                    bodies.remove(lease.message.body)
    await queue.close()
    await sender.close()
