"""What every `Events` and every `WorkQueue` promises. A further one is a further entry of `EVENTS` or
`QUEUES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import pytest

from imageflow_common.errors import InvalidArgument, Unavailable
from imageflow_common.events import MAX_MESSAGE_BYTES, Event, Events, Lagged, LocalEvents
from imageflow_common.kafka_dead_letters import dead_letters
from imageflow_common.kafka_events import KafkaEvents
from imageflow_common.kafka_sender import KafkaSender
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics
from imageflow_common.kafka_workqueue import KafkaWorkQueue
from imageflow_common.workqueue import DeadLetter, LocalWorkQueue, Message, WorkQueue

QUEUE_SIZE = 8
Opened = TypeVar("Opened")
DeadLetters = Callable[[], tuple[DeadLetter, ...]]


@asynccontextmanager
async def local_events() -> AsyncIterator[Events]:
    events = LocalEvents(queue_size=QUEUE_SIZE)
    yield events
    await events.close()


@asynccontextmanager
async def local_queue() -> AsyncIterator[tuple[WorkQueue, DeadLetters]]:
    queue = LocalWorkQueue(capacity=100)
    yield queue, lambda: queue.dead_letters
    await queue.close()


@asynccontextmanager
async def kafka_events(settings: KafkaSettings) -> AsyncIterator[Events]:
    """One partition, because one test looks at the order of two keys."""
    create_topics(settings, ["progress", "completions"], partitions=1)
    sender = KafkaSender(settings)
    events = KafkaEvents(settings, sender, queue_size=QUEUE_SIZE)
    yield events
    await events.close()
    await sender.close()


@asynccontextmanager
async def kafka_queue(settings: KafkaSettings) -> AsyncIterator[tuple[WorkQueue, DeadLetters]]:
    create_topics(settings, ["work", "work-dlq"])
    sender = KafkaSender(settings)
    queue = KafkaWorkQueue(settings, sender, "work")
    yield queue, lambda: tuple(dead_letters(settings, "work"))
    await queue.close()
    await sender.close()


EVENTS: dict[str, Callable[[KafkaSettings], AbstractAsyncContextManager[Events]]] = {"kafka": kafka_events}
QUEUES: dict[str, Callable[[KafkaSettings], AbstractAsyncContextManager[tuple[WorkQueue, DeadLetters]]]] = {
    "kafka": kafka_queue
}


@pytest.fixture(params=["local", *EVENTS])
async def events(request: pytest.FixtureRequest) -> AsyncIterator[Events]:
    async with _open(request, local_events, EVENTS) as opened:
        yield opened


@pytest.fixture(params=["local", *QUEUES])
async def queue_and_dead(request: pytest.FixtureRequest) -> AsyncIterator[tuple[WorkQueue, DeadLetters]]:
    async with _open(request, local_queue, QUEUES) as opened:
        yield opened


def _open(
    request: pytest.FixtureRequest, local: Callable[[], Opened], others: Mapping[str, Callable[..., Opened]]
) -> Opened:
    """The broker is started only for who asks for it."""
    return local() if request.param == "local" else others[request.param](request.getfixturevalue("kafka_settings"))


@pytest.fixture
def queue(queue_and_dead: tuple[WorkQueue, DeadLetters]) -> WorkQueue:
    return queue_and_dead[0]


def event(key: str, number: int, topic: str = "progress") -> Event:
    return Event(topic, key, number, b"%d" % number, {"traceparent": "00"})


async def receive(subscription: AsyncIterator[Event | Lagged], count: int) -> list[Event | Lagged]:
    async with asyncio.timeout(10):
        return [await anext(subscription) for _ in range(count)]


async def test_every_subscriber_receives_every_event_in_order(events: Events) -> None:
    sent = [event("e1", number) for number in range(QUEUE_SIZE)]
    async with events.subscribe("progress") as first, events.subscribe("progress") as second:
        for one in sent:
            await events.publish(one)
        assert await receive(first, len(sent)) == sent
        assert await receive(second, len(sent)) == sent


async def test_a_subscriber_receives_its_topic_and_key_only(events: Events) -> None:
    async with events.subscribe("progress", key="e1") as mine:
        await events.publish(event("e2", 0))
        await events.publish(event("e1", 0, topic="completions"))
        await events.publish(event("e1", 1))
        assert await receive(mine, 1) == [event("e1", 1)]


async def test_a_subscriber_that_lags_is_told_and_keeps_the_newest(events: Events) -> None:
    async with (
        events.subscribe("progress", key="e1") as slow,
        events.subscribe("progress", key="e2") as other,
    ):
        for number in range(QUEUE_SIZE * 3):
            await events.publish(event("e1", number))
        await events.publish(event("e2", 0))
        assert await receive(other, 1) == [event("e2", 0)]
        received = await receive(slow, QUEUE_SIZE + 1)
        assert received[0] == Lagged(QUEUE_SIZE * 2)
        assert received[1:] == [event("e1", number) for number in range(QUEUE_SIZE * 2, QUEUE_SIZE * 3)]


async def test_a_waiting_subscriber_wakes(events: Events) -> None:
    async with events.subscribe("progress") as subscription:
        waiting = asyncio.create_task(receive(subscription, 1))
        await asyncio.sleep(0)
        await events.publish(event("e1", 7))
        assert await waiting == [event("e1", 7)]


async def test_closing_ends_a_subscription_behind_what_it_holds(events: Events) -> None:
    async with events.subscribe("progress") as subscription:
        await events.publish(event("e1", 0))
        assert await receive(subscription, 1) == [event("e1", 0)]
        await events.close()
        assert [one async for one in subscription] == []
    with pytest.raises(Unavailable):
        await events.publish(event("e1", 1))


@pytest.mark.parametrize("number", [-1, 2**32])
def test_an_event_number_is_uint32(number: int) -> None:
    with pytest.raises(InvalidArgument):
        Event("progress", "e1", number, b"")


def test_a_message_too_large_for_a_broker_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        Message("e1", b"x" * MAX_MESSAGE_BYTES)
    with pytest.raises(InvalidArgument):
        Event("progress", "", 0, b"")


async def test_messages_of_one_key_are_taken_in_order(queue: WorkQueue) -> None:
    sent = [Message("e1", b"%d" % number, {"n": str(number)}) for number in range(5)]
    for message in sent:
        await queue.put(message)
    taken = []
    for _ in sent:
        async with queue.take() as lease:
            assert lease.deliveries == 1
            taken.append(lease.message)
            await lease.ack()
    assert taken == sent


async def test_leases_end_in_any_order(queue: WorkQueue) -> None:
    for number in range(3):
        await queue.put(Message("e1", b"%d" % number))
    async with queue.take() as first, queue.take() as second, queue.take() as third:
        await third.ack()
        await first.ack()
        await second.release()
    async with queue.take() as again:
        assert (again.message.body, again.deliveries) == (b"1", 2)
        await again.ack()


async def test_leaving_the_block_without_an_end_gives_the_message_again(queue: WorkQueue) -> None:
    await queue.put(Message("e1", b"work"))
    with pytest.raises(RuntimeError):
        async with queue.take():
            raise RuntimeError("the worker fell over")
    async with queue.take():
        pass
    async with queue.take() as lease:
        assert (lease.message.body, lease.deliveries) == (b"work", 3)
        await lease.ack()


async def test_a_poison_message_is_set_aside_with_its_reason(
    queue_and_dead: tuple[WorkQueue, DeadLetters],
) -> None:
    queue, dead = queue_and_dead
    await queue.put(Message("e1", b"{"))
    await queue.put(Message("e2", b"{}"))
    async with queue.take() as lease:
        await lease.dead_letter("not JSON")
        await lease.ack()  # ended already: does nothing
    async with queue.take() as lease:
        assert lease.message.key == "e2"
        await lease.ack()
    assert dead() == (DeadLetter(Message("e1", b"{"), "not JSON"),)


async def test_a_cancelled_taker_loses_no_message(queue: WorkQueue) -> None:
    async def take() -> bytes:
        async with queue.take() as lease:
            await lease.ack()
            return lease.message.body

    cancelled = asyncio.create_task(take())
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await queue.put(Message("e1", b"work"))
    async with asyncio.timeout(10):
        assert await take() == b"work"


async def test_closing_turns_waiting_takers_away(queue: WorkQueue) -> None:
    async def take() -> None:
        async with queue.take():
            pass

    takers = [asyncio.create_task(take()) for _ in range(3)]
    await asyncio.sleep(0)
    await queue.close()
    async with asyncio.timeout(10):
        results = await asyncio.gather(*takers, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    with pytest.raises(Unavailable):
        await queue.put(Message("e1", b""))
