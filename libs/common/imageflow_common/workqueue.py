"""Work to be done at least once: taken under a lease, acknowledged when its outcome is stored, else given
again.

Shaped so that a Kafka topic can stand behind it: leases end in any order (offsets are committed up to the
first that is open), and what is released is given again by the process that holds it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from imageflow_common.errors import Overloaded, Unavailable
from imageflow_common.events import check_message

MAX_REASON_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """Work, by reference. `key` (an execution id) decides the order: one key's messages are first given in
    the order in which they were put. Raises `InvalidArgument` for what `check_message` refuses.
    """

    key: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_message(self.key, self.body, self.headers)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up, and why."""

    message: Message
    reason: str


class Lease(Protocol):
    """One message in our hands. It ends by the first of `ack`, `dead_letter` and `release`; the others then
    do nothing. When the lease was lost (another process was given the message), `ack` and `dead_letter`
    raise `Unavailable`.
    """

    @property
    def message(self) -> Message: ...

    @property
    def deliveries(self) -> int:
        """How often this process has been given the message, this time included: at least 1."""
        ...

    async def ack(self) -> None:
        """The work is done and its outcome stored: do not give it again (a crash just now may, all the
        same).
        """
        ...

    async def dead_letter(self, reason: str) -> None:
        """The work can never be done: set it aside with the reason (its first 1000 characters) and go on."""
        ...

    async def release(self) -> None:
        """Give the message again, to anybody, behind what waits."""
        ...


class WorkQueue(Protocol):
    """Messages for any number of takers. Used from one event loop."""

    async def put(self, message: Message) -> None:
        """Returns when the message is accepted. Raises `Overloaded` when the queue is full, `Unavailable`."""
        ...

    def take(self) -> AbstractAsyncContextManager[Lease]:
        """Wait for a message, and lease it for the block: leaving the block, in whichever way, releases a
        lease that has not ended. A cancelled wait loses no message. Raises `Unavailable` when closed.
        """
        ...

    async def close(self) -> None:
        """Takers that wait raise `Unavailable`; leases in hand can still end."""
        ...


class LocalWorkQueue:
    """A `WorkQueue` within one process, gone with it.

    At most `capacity` messages wait or are leased; the last `kept_dead_letters` can be looked at.
    """

    def __init__(self, *, capacity: int, kept_dead_letters: int = 100) -> None:
        if capacity < 1:
            raise ValueError("capacity is less than 1")
        self._capacity = capacity
        self._open = 0
        self._waiting: asyncio.Queue[_Waiting | None] = asyncio.Queue()  # None: closed; stays at the head
        self._closed = False
        self._dead: deque[DeadLetter] = deque(maxlen=kept_dead_letters)

    @property
    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """Oldest first."""
        return tuple(self._dead)

    async def put(self, message: Message) -> None:
        if self._closed:
            raise Unavailable("the work queue is closed")
        if self._open >= self._capacity:
            raise Overloaded("the work queue is full")
        self._open += 1
        self._waiting.put_nowait(_Waiting(message, 0))

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Lease]:
        lease = _LocalLease(self, await self._next())
        try:
            yield lease
        finally:
            await lease.release()

    async def close(self) -> None:
        self._closed = True
        self._waiting.put_nowait(None)

    async def _next(self) -> _Waiting:
        waiting = None if self._closed else await self._waiting.get()
        if waiting is None or self._closed:
            self._waiting.put_nowait(None)  # for the next taker
            raise Unavailable("the work queue is closed")
        return waiting

    def _requeue(self, waiting: _Waiting) -> None:
        self._waiting.put_nowait(waiting)

    def _settle(self, dead: DeadLetter | None = None) -> None:
        self._open -= 1
        if dead is not None:
            self._dead.append(dead)


@dataclass(frozen=True, slots=True)
class _Waiting:
    message: Message
    deliveries: int


class _LocalLease:
    def __init__(self, queue: LocalWorkQueue, waiting: _Waiting) -> None:
        self._queue = queue
        self._ended = False
        self.message = waiting.message
        self.deliveries = waiting.deliveries + 1

    async def ack(self) -> None:
        if self._end():
            self._queue._settle()

    async def dead_letter(self, reason: str) -> None:
        if self._end():
            self._queue._settle(DeadLetter(self.message, reason[:MAX_REASON_CHARACTERS]))

    async def release(self) -> None:
        if self._end():
            self._queue._requeue(_Waiting(self.message, self.deliveries))

    def _end(self) -> bool:
        first, self._ended = not self._ended, True
        return first
