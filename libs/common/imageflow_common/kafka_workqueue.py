"""`WorkQueue` over a topic and a consumer group: the takers of all processes share the partitions.

A message that is given up goes to the topic's dead letters (`TOPIC-dlq`) as it came, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from kafka.partitioner.default import murmur2

from .errors import ImageFlowError, InvalidArgument, Unavailable
from .kafka_consumer import MAX_UNPACKED_BYTES, UNREAD_HEADER
from .kafka_group import Given, GroupMember
from .kafka_sender import KafkaSender, Outgoing, read_headers, write_headers
from .kafka_settings import KafkaSettings
from .logs import EventLog
from .workqueue import MAX_REASON_CHARACTERS, Lease, Message

log = EventLog(__name__)

DEAD_LETTERS = "{topic}-dlq"
DEAD_LETTER_PREFIX = "imageflow-dlq-"
REASON_HEADER = f"{DEAD_LETTER_PREFIX}reason"
LEFT_OUT_HEADER = f"{DEAD_LETTER_PREFIX}body-left-out"
"""How many bytes the body had, where it is too large for the topic of dead letters."""

_CLOSE_SECONDS = 2.0
_AGAIN_SECONDS = 1.0


class KafkaWorkQueue:
    """Takes part in the group from `join`, or from the first `take`, until closed."""

    def __init__(self, settings: KafkaSettings, sender: KafkaSender, topic: str) -> None:
        self._settings = settings
        self._sender = sender
        self._topic = topic
        self._member: GroupMember | None = None
        self._waiting: asyncio.Queue[_KafkaLease | None] = asyncio.Queue()  # None: closed; stays at the head
        self._tenures: Mapping[int, int] = {}
        self._partitions = 0
        self._moved: Callable[[], None] = lambda: None
        self._closed = False
        self._in_hand = 0
        self._all_ended = asyncio.Event()
        self._all_ended.set()

    def join(self, moved: Callable[[], None] = lambda: None) -> None:
        """`moved` is called when `holds` answers otherwise than before, for good."""
        self._moved = moved
        if self._member is None:
            self._member = GroupMember(self._settings, self._topic, self)
            self._member.start()

    @property
    def is_member(self) -> bool:
        """Whether it holds a part of the topic."""
        return bool(self._tenures)

    @property
    def lag(self) -> Mapping[int, int]:
        """By partition that this process holds, how many messages wait or are worked on."""
        return self._member.lag if self._member is not None else {}

    def holds(self, key: str) -> bool:
        """Whether messages of this key are given to this process, as far as it knows."""
        return bool(self._partitions) and (murmur2(key.encode()) & 0x7FFFFFFF) % self._partitions in self._tenures

    async def put(self, message: Message) -> None:
        if self._closed:
            raise Unavailable("the work queue is closed")
        headers = write_headers(message.headers)
        await self._sender.send(
            Outgoing(self._settings.topic(self._topic), message.key.encode(), message.body, headers)
        )

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Lease]:
        lease = await self._next()
        self._in_hand += 1
        self._all_ended.clear()
        try:
            yield lease
        finally:
            await lease.release()
            self._in_hand -= 1
            if not self._in_hand:
                self._all_ended.set()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._waiting.put_nowait(None)
        if self._member is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._all_ended.wait()
            await self._member.close()

    def given(self, messages: list[Given]) -> None:
        for given in messages:
            self._waiting.put_nowait(_KafkaLease(self, given, 1))

    def holding(self, tenures: Mapping[int, int], count: int, *, settled: bool) -> None:
        self._tenures, self._partitions = tenures, count or self._partitions
        if settled:
            log.info("kafka.holding", topic=self._topic, partitions=sorted(tenures))
            self._moved()
        else:
            log.warning("kafka.lost", topic=self._topic)

    async def _next(self) -> _KafkaLease:
        self.join(self._moved)
        while True:
            lease = None if self._closed else await self._waiting.get()
            if lease is None or self._closed:
                self._waiting.put_nowait(None)  # for the next taker
                raise Unavailable("the work queue is closed")
            if lease.is_lost:
                continue
            if (fault := lease.fault) is None:
                return lease
            await self._refuse(lease, fault)

    async def _refuse(self, lease: _KafkaLease, fault: str) -> None:
        try:
            await lease.dead_letter(fault)
        except ImageFlowError as exc:
            log.warning("kafka.not_set_aside", topic=self._topic, error_type=exc.reason)
            await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            await lease.release()

    async def _set_aside(self, record: Any, reason: str) -> None:
        """As it came, but for a body that the topic of dead letters does not take."""
        topic = DEAD_LETTERS.format(topic=self._settings.topic(self._topic))
        about = {
            REASON_HEADER: reason[:MAX_REASON_CHARACTERS],
            f"{DEAD_LETTER_PREFIX}partition": str(record.partition),
            f"{DEAD_LETTER_PREFIX}offset": str(record.offset),
            f"{DEAD_LETTER_PREFIX}time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        unread = dict(record.headers).get(UNREAD_HEADER)
        own = tuple((name, value or b"") for name, value in record.headers if not name.startswith(DEAD_LETTER_PREFIX))
        left_out = (*write_headers(about), (LEFT_OUT_HEADER, unread or b"%d" % len(record.value or b"")))
        bare = Outgoing(topic, (record.key or b"")[:1_000] or None, b"", left_out)
        whole = Outgoing(topic, record.key, record.value or b"", own + write_headers(about))
        try:
            await self._sender.send(bare if unread else whole)
        except InvalidArgument:
            await self._sender.send(bare)

    def _settle(self, given: Given) -> None:
        if self._member is not None:
            self._member.settle(given)

    def _again(self, lease: _KafkaLease) -> None:
        if not self._closed:
            self._waiting.put_nowait(_KafkaLease(self, lease.given, lease.deliveries + 1))

    def _lost(self, given: Given) -> bool:
        since = self._tenures.get(given.record.partition)
        return since is None or since > given.tenure


class _KafkaLease:
    def __init__(self, queue: KafkaWorkQueue, given: Given, deliveries: int) -> None:
        self._queue = queue
        self.given = given
        self.deliveries = deliveries
        self._ended = False
        self.fault: str | None = None
        self._message: Message | None = None
        try:
            self._message = _read(given.record)
        except InvalidArgument as exc:
            self.fault = exc.message

    @property
    def message(self) -> Message:
        assert self._message is not None, "a message with a fault is given to nobody"
        return self._message

    @property
    def is_lost(self) -> bool:
        return self._queue._lost(self.given)

    async def ack(self) -> None:
        if self._end():
            self._check_held()
            self._queue._settle(self.given)

    async def dead_letter(self, reason: str) -> None:
        if not self._end():
            return
        self._check_held()
        try:
            await self._queue._set_aside(self.given.record, reason)
        except BaseException:
            self._ended = False
            raise
        self._queue._settle(self.given)

    async def release(self) -> None:
        if self._end() and not self.is_lost:
            self._queue._again(self)

    def _check_held(self) -> None:
        if self.is_lost:
            raise Unavailable("the message was given to another process", reason="LEASE_LOST")

    def _end(self) -> bool:
        first, self._ended = not self._ended, True
        return first


def _read(record: Any) -> Message:
    """A message without a key gets one of its own. Raises InvalidArgument for one that is too large."""
    if UNREAD_HEADER in dict(record.headers):
        raise InvalidArgument(f"messages packed together unpack to more than {MAX_UNPACKED_BYTES} bytes")
    key = (record.key or b"").decode(errors="replace") or f"{record.partition}-{record.offset}"
    return Message(key, record.value or b"", read_headers(record.headers))
