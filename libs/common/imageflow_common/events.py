"""News of executions: published once, seen by whoever listens at the time. Nothing is kept for later.

An event is a hint to look: the record is the truth. So a slow listener loses events, and is told so.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from imageflow_common.errors import InvalidArgument, Unavailable

MAX_MESSAGE_BYTES = 900_000  # a broker's default of 1 MB, less what it adds
MAX_NUMBER = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Event:
    """`number` counts the events of one `key` (an execution id) on one topic: given by the publisher, rising,
    within uint32. Raises `InvalidArgument` for another number, and for what `check_message` refuses.
    """

    topic: str
    key: str
    number: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_message(self.key, self.body, self.headers)
        if not 0 <= self.number <= MAX_NUMBER:
            raise InvalidArgument("an event's number is not within uint32")


@dataclass(frozen=True, slots=True)
class Lagged:
    """`missed` events of this subscription (at least 1) were dropped before the next one: read the record."""

    missed: int


Received: TypeAlias = Event | Lagged


class Events(Protocol):
    """Publish and subscribe. Used from one event loop."""

    async def publish(self, event: Event) -> None:
        """Returns when the event is accepted. Never waits for a subscriber.

        Events of one topic and key, each awaited before the next, arrive in this order; one may arrive twice,
        with the same number. Raises `Unavailable`; the event may have been published nevertheless.
        """
        ...

    def subscribe(self, topic: str, *, key: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Received]]:
        """Every event of a topic (of one key, where given) that is published after the block is entered.

        A subscriber that does not keep up loses the oldest events and receives a `Lagged` in their place; the
        newest is never lost. The iterator ends when the events are closed. Raises `Unavailable`.
        """
        ...

    async def close(self) -> None:
        """Every subscription ends behind what it has still waiting. Later calls raise `Unavailable`."""
        ...


class LocalEvents:
    """`Events` within one process. Each subscription holds at most `queue_size` events."""

    def __init__(self, *, queue_size: int = 256) -> None:
        if queue_size < 1:
            raise ValueError("queue_size is less than 1")
        self._queue_size = queue_size
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._closed = False

    async def publish(self, event: Event) -> None:
        self._check_open()
        for subscription in self._subscriptions.get(event.topic, ()):
            subscription.offer(event)

    @asynccontextmanager
    async def subscribe(self, topic: str, *, key: str | None = None) -> AsyncIterator[AsyncIterator[Received]]:
        self._check_open()
        subscription = Subscription(key, self._queue_size)
        subscribers = self._subscriptions[topic]
        subscribers.add(subscription)
        try:
            yield subscription
        finally:
            subscribers.discard(subscription)
            if not subscribers and self._subscriptions.get(topic) is subscribers:
                del self._subscriptions[topic]

    async def close(self) -> None:
        self._closed = True
        for subscribers in self._subscriptions.values():
            for subscription in subscribers:
                subscription.end()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("events are closed")


class Subscription(AsyncIterator[Received]):
    """What waits for one subscriber, the newest `size` events; of `key` alone, where given."""

    def __init__(self, key: str | None, size: int) -> None:
        self._key = key
        self._waiting: deque[Event] = deque(maxlen=size)
        self._missed = 0
        self._ended = False
        self._news = asyncio.Event()

    def offer(self, event: Event) -> None:
        if self._key not in (None, event.key):
            return
        if len(self._waiting) == self._waiting.maxlen:
            self._missed += 1  # the deque lets go of its oldest
        self._waiting.append(event)
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    async def __anext__(self) -> Received:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if self._missed:
            lagged, self._missed = Lagged(self._missed), 0
            return lagged
        return self._waiting.popleft()


def check_message(key: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Raise `InvalidArgument` for what a broker would not carry: no key, or more than `MAX_MESSAGE_BYTES`."""
    if not key:
        raise InvalidArgument("a message has no key")
    size = len(key.encode()) + len(body)
    size += sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    if size > MAX_MESSAGE_BYTES:
        raise InvalidArgument(f"a message is larger than {MAX_MESSAGE_BYTES} bytes")
