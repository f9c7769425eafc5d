"""A member of a consumer group, in a thread: what it is given goes to an event loop; what is settled, it commits.

It polls all the time, also while nothing more may be taken (then its partitions are paused), so that work may take
longer than the group lets a silent member be.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from kafka import OffsetAndMetadata, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError

from .kafka_consumer import make_consumer
from .kafka_ledger import Ledger
from .kafka_settings import KafkaSettings
from .logs import EventLog

log = EventLog(__name__)

_POLL_MILLIS = 50
_AGAIN_SECONDS = 0.5
_MOST_POLLED = 100
_MOST_UNCOMMITTED = 2_000
"""Of one partition, behind one message that takes long."""
_COMMIT_SECONDS = 2.0
_METADATA_MILLIS = 15_000


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A message of a partition that this member held when it was polled. `tenure` tells one holding from the next."""

    record: Any
    tenure: int


class Taker(Protocol):
    """What the group tells, on the event loop."""

    def given(self, messages: list[Given]) -> None: ...

    def holding(self, tenures: Mapping[int, int], count: int, *, settled: bool) -> None:
        """Which partitions, of how many, this member holds, and since which tenure. Not `settled`: some were lost, and
        it is not known yet which of them come back."""
        ...


class GroupMember:
    """From `start` until `close`. Reconnects by itself."""

    def __init__(self, settings: KafkaSettings, topic: str, taker: Taker) -> None:
        self._settings = settings
        self._topic = settings.topic(topic)
        self._taker = taker
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._ledgers: dict[TopicPartition, tuple[int, Ledger]] = {}
        self._tenures = 0
        self._moved: bool | None = None
        self._settlements: deque[Given] = deque()
        self._committing_until = 0.0
        self._closing = threading.Event()
        self._ended = asyncio.Event()
        self.lag: Mapping[int, int] = {}
        """By partition held, how many messages wait or are worked on."""
        self._thread = threading.Thread(target=self._run, name=f"kafka-group-{self._topic}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def settle(self, given: Given) -> None:
        """The message need not be given again. One of a partition that is no longer held is forgotten."""
        self._settlements.append(given)

    async def close(self) -> None:
        """Commits what is settled, and leaves the group."""
        self._closing.set()
        if self._thread.is_alive():
            await self._ended.wait()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._take_part()
                except KafkaError as exc:
                    log.debug("kafka.group_broken", topic=self._topic, error_type=type(exc).__name__)
                except Exception as exc:
                    log.error("kafka.group_broken", topic=self._topic, exc_info=exc)
                self._lose(list(self._ledgers))
                self._tell_moved()
                self._closing.wait(_AGAIN_SECONDS)
        finally:
            self._post(self._ended.set)

    def _take_part(self) -> None:
        silent_millis = int(self._settings.session_timeout_seconds * 1_000)
        consumer = make_consumer(
            self._settings,
            group_id=self._settings.group_id,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            session_timeout_ms=silent_millis,
            heartbeat_interval_ms=silent_millis // 4,
            max_poll_interval_ms=silent_millis,
            metadata_max_age_ms=_METADATA_MILLIS,
        )
        self._committing_until = 0.0
        try:
            consumer.partitions_for_topic(self._topic)  # else it joins before it knows the topic, and once more after
            consumer.subscribe([self._topic], listener=_Listener(self, consumer))
            while not self._closing.is_set():
                self._take_round(consumer)
            self._commit_now(consumer)
        finally:
            consumer.close(autocommit=False, timeout_ms=int(_COMMIT_SECONDS * 1_000))

    def _take_round(self, consumer: Any) -> None:
        self._apply_settlements()
        self._commit(consumer)
        room = self._make_room(consumer)
        polled = consumer.poll(timeout_ms=_POLL_MILLIS, max_records=max(1, min(room, _MOST_POLLED)))
        _mend_rejoin(consumer)
        self.lag = self._behind(consumer)
        self._tell_moved(len(consumer.partitions_for_topic(self._topic)))
        for partition, records in polled.items():
            self._give(partition, records)

    def _make_room(self, consumer: Any) -> int:
        """How many more may be taken. Pauses the partitions that may give none now, and resumes the others."""
        with self._lock:
            ledgers = {partition: ledger for partition, (_, ledger) in self._ledgers.items()}
            room = self._settings.max_in_flight - sum(ledger.open for ledger in ledgers.values())
            full = {each for each, ledger in ledgers.items() if room <= 0 or len(ledger) >= _MOST_UNCOMMITTED}
        paused, assigned = set(consumer.paused()), set(consumer.assignment())
        consumer.pause(*(full & assigned) - paused)
        consumer.resume(*(paused & assigned) - full)
        return room

    def _behind(self, consumer: Any) -> Mapping[int, int]:
        """By partition, how many messages there are that are not settled, as far as the broker has said."""
        with self._lock:
            done = {partition: ledger.done for partition, (_, ledger) in self._ledgers.items()}
        ends = {partition: consumer.highwater(partition) for partition in done if partition in consumer.assignment()}
        known = {partition: end for partition, end in ends.items() if end is not None}
        return {partition.partition: lag(end=end, done=done[partition]) for partition, end in known.items()}

    def _give(self, partition: TopicPartition, records: list[Any]) -> None:
        with self._lock:
            held = self._ledgers.get(partition)
            if held is None:
                return
            tenure, ledger = held
            for record in records:
                ledger.give(record.offset)
        self._post(self._taker.given, [Given(record, tenure) for record in records])

    def _apply_settlements(self) -> None:
        while self._settlements:
            given = self._settlements.popleft()
            with self._lock:
                held = self._ledgers.get(TopicPartition(given.record.topic, given.record.partition))
                if held is not None and held[0] == given.tenure:
                    held[1].settle(given.record.offset)

    def _to_commit(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        with self._lock:
            held = {each: self._ledgers[each][1].to_commit() for each in partitions if each in self._ledgers}
        return {each: OffsetAndMetadata(offset, "", -1) for each, offset in held.items() if offset is not None}

    def _commit(self, consumer: Any) -> None:
        """One commit at a time; one that fails is made up for by the next."""
        if time.monotonic() < self._committing_until or not (offsets := self._to_commit(list(self._ledgers))):
            return
        self._committing_until = time.monotonic() + _COMMIT_SECONDS
        consumer.commit_async(offsets, callback=self._commit_answered)

    def _commit_answered(self, offsets: dict[TopicPartition, OffsetAndMetadata], response: object) -> None:
        self._committing_until = 0.0
        if isinstance(response, Exception):
            log.debug("kafka.not_committed", topic=self._topic, error_type=type(response).__name__)
            return
        with self._lock:
            for partition, offset in offsets.items():
                if partition in self._ledgers:
                    self._ledgers[partition][1].committed(offset.offset)

    def _commit_now(self, consumer: Any) -> None:
        self._apply_settlements()
        with suppress(KafkaError):
            if offsets := self._to_commit(list(self._ledgers)):
                consumer.commit(offsets, timeout_ms=int(_COMMIT_SECONDS * 1_000))

    def _assigned(self, partitions: Iterable[TopicPartition]) -> None:
        with self._lock:
            for partition in partitions:
                self._tenures += 1
                self._ledgers[partition] = self._tenures, Ledger()
            self._moved = True

    async def _revoked(self, partitions: Iterable[TopicPartition], consumer: Any) -> None:
        """Runs on the consumer's own loop: what is settled by now is committed before anybody else may begin there."""
        self._apply_settlements()
        offsets = self._to_commit(partitions)
        self._lose(partitions)
        self._moved = True
        if offsets:
            with suppress(KafkaError):
                await consumer.commit_async(offsets)

    def _lose(self, partitions: Iterable[TopicPartition]) -> None:
        with self._lock:
            for partition in partitions:
                self._ledgers.pop(partition, None)
            self._moved = self._moved or False

    def _tell_moved(self, count: int = 0) -> None:
        with self._lock:
            moved, self._moved = self._moved, None
            tenures = {partition.partition: tenure for partition, (tenure, _) in self._ledgers.items()}
        if moved is not None:
            self._post(lambda: self._taker.holding(tenures, count, settled=moved))

    def _post(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, *arguments)


def lag(*, end: int, done: int | None) -> int:
    """Messages of a partition that `end`s there and is `done` up to an offset; None: none of it was given yet."""
    return 0 if done is None else max(0, end - done)


def _mend_rejoin(consumer: Any) -> None:
    """kafka-python forgets that it was about to rejoin for the sake of new partitions when a poll ends in the midst of
    it: it would hold nothing, and say nothing, for ever. Seen in 3.0.12."""
    coordinator = consumer._coordinator
    if coordinator.rejoining and not coordinator.need_rejoin():
        coordinator.request_rejoin()


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Called in the consumer's own thread of input and output: nothing here may block."""

    def __init__(self, member: GroupMember, consumer: Any) -> None:
        self._member = member
        self._consumer = consumer

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._member._assigned(assigned)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._member._revoked(revoked, self._consumer)

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._member._lose(lost)
