"""Several takers of one topic: nothing is lost, nothing is done twice, whoever comes and goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from imageflow_common.errors import Unavailable
from imageflow_common.kafka_dead_letters import buried
from imageflow_common.kafka_sender import KafkaSender
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics
from imageflow_common.kafka_workqueue import KafkaWorkQueue
from imageflow_common.workqueue import Message


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    create_topics(kafka_settings, ["work", "work-dlq"])
    return kafka_settings


@asynccontextmanager
async def member(settings: KafkaSettings, **changed: object) -> AsyncIterator[KafkaWorkQueue]:
    settings = settings.model_copy(update=changed)
    sender = KafkaSender(settings)
    queue = KafkaWorkQueue(settings, sender, "work")
    try:
        yield queue
    finally:
        await queue.close()
        await sender.close()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def committed(settings: KafkaSettings) -> int:
    """How many messages of the topic need not be given again."""
    options = settings.client_options()
    consumer = KafkaConsumer(**options, group_id=settings.group_id, enable_auto_commit=False)
    try:
        partitions = [TopicPartition(settings.topic("work"), number) for number in range(settings.partitions)]
        return sum(consumer.committed(each) or 0 for each in partitions)
    finally:
        consumer.close()


async def work(queue: KafkaWorkQueue, done: Counter[bytes]) -> None:
    while True:
        try:
            async with queue.take() as lease:
                await asyncio.sleep(0.002)
                await lease.ack()
                done[lease.message.body] += 1
        except Unavailable as exc:
            if exc.reason != "LEASE_LOST":
                return


async def test_members_that_come_and_go_lose_nothing_and_double_no_more_than_was_in_hand(
    settings: KafkaSettings,
) -> None:
    """Of 300 messages, with a second member that joins and a first one that leaves in the midst of them."""
    bodies = [b"%d" % number for number in range(300)]
    done: Counter[bytes] = Counter()
    async with member(settings) as first, member(settings) as second, asyncio.TaskGroup() as tasks:
        for body in bodies:
            await first.put(Message(body.decode(), body))
        tasks.create_task(work(first, done))
        await eventually(lambda: len(done) >= 50)
        tasks.create_task(work(second, done))
        await eventually(lambda: second.is_member)
        await eventually(lambda: len(done) >= 150)
        await first.close()
        await eventually(lambda: len(done) == len(bodies))
        await second.close()
    assert set(done) == set(bodies)
    again = sum(done.values()) - len(bodies)
    assert again <= len(bodies) / 3, "more than what was ended before its taker heard that its partition was gone"
    assert committed(settings) == len(bodies)


async def test_every_key_is_held_by_one_member_and_its_messages_go_there(settings: KafkaSettings) -> None:
    async with member(settings) as one, member(settings) as other:
        one.join()
        other.join()
        keys = [f"execution-{number}" for number in range(40)]
        await eventually(lambda: one.is_member and other.is_member)
        await eventually(lambda: all(one.holds(key) != other.holds(key) for key in keys))
        for key in keys:
            await one.put(Message(key, b"work"))
        mine = [key for key in keys if one.holds(key)]
        for _ in mine:
            async with asyncio.timeout(10), one.take() as lease:
                assert one.holds(lease.message.key)
                await lease.ack()


async def test_what_is_open_holds_back_the_commit_of_what_follows(settings: KafkaSettings) -> None:
    async with member(settings) as queue:
        for number in range(4):
            await queue.put(Message("one key", b"%d" % number))
        async with queue.take() as first:
            await first.ack()
        async with queue.take() as open_one:
            for _ in range(2):
                async with queue.take() as later:
                    await later.ack()
            await eventually(lambda: committed(settings) == 1)
            await open_one.ack()
        await eventually(lambda: committed(settings) == 4)


async def test_work_may_take_longer_than_a_member_may_be_silent(settings: KafkaSettings) -> None:
    """Also while the member takes nothing more, and others wait for its partitions."""
    async with member(settings, max_in_flight=1) as busy, member(settings) as idle:
        await busy.put(Message("long", b"long"))
        async with busy.take() as lease:
            idle.join()
            await eventually(lambda: idle.is_member)
            if not busy.holds("long"):
                pytest.fail("what is held must not move when another joins")  # cooperative, sticky
            ended = asyncio.get_running_loop().time() + settings.session_timeout_seconds * 1.5
            await eventually(lambda: asyncio.get_running_loop().time() > ended)
            await lease.ack()
        await eventually(lambda: committed(settings) == 1)


async def test_no_more_is_fetched_than_may_be_in_flight(settings: KafkaSettings) -> None:
    async with member(settings, max_in_flight=5) as queue:
        for number in range(40):
            await queue.put(Message(str(number), b"x"))
        queue.join()
        await eventually(lambda: queue._waiting.qsize() >= 5)
        for _ in range(40):
            assert queue._waiting.qsize() <= 5
            async with asyncio.timeout(10), queue.take() as lease:
                await lease.ack()


def make_roomy_topic(settings: KafkaSettings) -> None:
    """Which takes larger messages than its dead letters do."""
    admin = KafkaAdminClient(**settings.client_options())
    large = {"max.message.bytes": "20000000"}
    admin.create_topics([NewTopic(settings.topic("work"), 1, 1, topic_configs=large)])
    admin.close()
    create_topics(settings, ["work-dlq"])


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_what_unpacks_to_far_more_is_set_aside_unread_and_the_stream_goes_on(
    kafka_settings: KafkaSettings, codec: str
) -> None:
    """A hundred megabytes of zeros; where they lie is told."""
    make_roomy_topic(kafka_settings)
    producer = KafkaProducer(**kafka_settings.client_options(), compression_type=codec, max_request_size=200_000_000)
    for body in (bytes(100_000_000), b"good"):
        producer.send(kafka_settings.topic("work"), body, b"key").get(timeout=20)
    async with member(kafka_settings) as queue:
        async with asyncio.timeout(20), queue.take() as lease:
            assert lease.message.body == b"good"
            await lease.ack()
        [dead] = buried(kafka_settings, "work")
    assert "unpack to more than" in dead.reason
    assert (dead.left_out, dead.body) == (True, b"")
    assert (dead.about["partition"], dead.about["offset"]) == ("0", "0")
    assert 0 < int(dead.about["body-left-out"]) < 20_000_000
    producer.close(timeout=1)


@pytest.mark.parametrize(
    ("key", "body"),
    [(b"key", b"x" * 10_000_000), (None, b"x" * 950_000)],
    ids=["too large for the dead letters too", "too large for us alone"],
)
async def test_what_is_too_large_is_set_aside_and_the_stream_goes_on(
    kafka_settings: KafkaSettings, key: bytes | None, body: bytes
) -> None:
    """As it came where the topic of dead letters takes it, else without its body."""
    make_roomy_topic(kafka_settings)
    producer = KafkaProducer(**kafka_settings.client_options(), max_request_size=20_000_000)
    headers = [("their-own", b"\xff\xfe")]
    producer.send(kafka_settings.topic("work"), body, key, headers).get(timeout=10)
    producer.send(kafka_settings.topic("work"), b"good", None, headers).get(timeout=10)
    async with member(kafka_settings) as queue:
        async with asyncio.timeout(20), queue.take() as lease:
            assert lease.message.body == b"good"
            assert lease.message.key == "0-1"  # its place, where the sender gave none
            await lease.ack()
        [dead] = buried(kafka_settings, "work")
    assert "larger" in dead.reason
    assert (dead.about["partition"], dead.about["offset"]) == ("0", "0")
    if dead.left_out:
        assert (dead.about["body-left-out"], len(body)) == ("10000000", 10_000_000)
    else:
        assert (dead.key, dead.body, dead.headers) == (key, body, tuple(headers))
    producer.close(timeout=1)
