"""`Events` over Kafka: whoever publishes, every process that subscribes hears it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from .errors import InvalidArgument, Unavailable
from .events import Event, Received, Subscription
from .kafka_errors import away
from .kafka_feed import Feed, Position
from .kafka_sender import KafkaSender, Outgoing, read_headers, write_headers
from .kafka_settings import KafkaSettings
from .logs import EventLog

log = EventLog(__name__)

NUMBER_HEADER = "imageflow-event-number"
"""The header that holds `Event.number`: a message with a number that was seen of its key says nothing new."""


class KafkaEvents:
    """Publishes with one producer; reads a topic, all partitions of it, while somebody subscribes to it. Each
    subscription holds at most `queue_size` events."""

    def __init__(self, settings: KafkaSettings, sender: KafkaSender, *, queue_size: int = 256) -> None:
        self._settings = settings
        self._sender = sender
        self._queue_size = queue_size
        self._topics: dict[str, _Topic] = {}
        self._closed = False

    async def publish(self, event: Event) -> None:
        self._check_open()
        headers = (*write_headers(event.headers), (NUMBER_HEADER, b"%d" % event.number))
        await self._sender.send(Outgoing(self._settings.topic(event.topic), event.key.encode(), event.body, headers))

    @asynccontextmanager
    async def subscribe(self, topic: str, *, key: str | None = None) -> AsyncIterator[AsyncIterator[Received]]:
        self._check_open()
        subscription = Subscription(key, self._queue_size)
        known = self._topics.get(topic)
        if known is None:
            known = self._topics[topic] = _Topic(topic, Feed(self._settings, topic))
        known.users += 1
        try:
            await self._enter(known, subscription)
            yield subscription
        finally:
            known.entries.pop(subscription, None)
            known.users -= 1
            if not known.users:
                del self._topics[topic]
                known.feed.stop()

    async def close(self) -> None:
        self._closed = True
        for topic in self._topics.values():
            topic.feed.stop()
            for subscription in topic.entries:
                subscription.end()

    async def _enter(self, topic: _Topic, subscription: Subscription) -> None:
        """What is published from now on is for the subscription. Raises Unavailable when the broker does not say in
        time where now is."""
        entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def enter(ends: dict[int, int]) -> None:
            if not entered.done():
                topic.entries[subscription] = ends
                entered.set_result(None)

        topic.feed.ask(enter, topic.deliver)
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                await entered
        except TimeoutError as exc:
            raise away() from exc

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("events are closed")


@dataclass(slots=True, eq=False)
class _Topic:
    """One topic while it is read. Of each subscription, where each partition ended when it was entered."""

    name: str
    feed: Feed
    users: int = 0
    entries: dict[Subscription, dict[int, int]] = field(default_factory=dict)

    def deliver(self, position: Position, key: bytes | None, body: bytes | None, headers: object) -> None:
        for subscription, ends in self.entries.items():
            if position.offset >= ends.get(position.partition, 0):
                event = self._read(key, body, headers)
                if event is None:
                    return
                subscription.offer(event)

    def _read(self, key: bytes | None, body: bytes | None, headers: object) -> Event | None:
        """None for what is none of our events."""
        said = read_headers(headers)
        try:
            number = int(said.pop(NUMBER_HEADER))
            return Event(self.name, (key or b"").decode(), number, body or b"", said)
        except (KeyError, ValueError, InvalidArgument):
            log.debug("kafka.passed_over", topic=self.name)
            return None
