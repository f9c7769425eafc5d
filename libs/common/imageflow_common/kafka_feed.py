"""Reads a topic from now on, for one process, in a thread: no group, nothing is committed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import KafkaError

from .kafka_consumer import make_consumer
from .kafka_settings import KafkaSettings
from .logs import EventLog

log = EventLog(__name__)

_POLL_MILLIS = 50
_AGAIN_SECONDS = 0.5
_METADATA_MILLIS = 15_000  # how soon a new partition is seen


class Position(NamedTuple):
    partition: int
    offset: int


Ask = Callable[[dict[int, int]], None]
Deliver = Callable[[Position, bytes | None, bytes | None, object], None]


class Feed:
    """Delivers every message of a topic on the event loop that made it, in order within a partition, from the first
    `ask` until `stop`. While the broker is away it waits, and then goes on where it was."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = settings.topic(topic)
        self._loop = asyncio.get_running_loop()
        self._asked: deque[Ask] = deque()
        self._deliver: Deliver | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._begun = False
        self._next: dict[TopicPartition, int] = {}

    def ask(self, answer: Ask, deliver: Deliver) -> None:
        """`answer` is called with where each partition ends now; whatever follows is delivered after that."""
        self._deliver = deliver
        self._asked.append(answer)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"kafka-feed-{self._topic}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped = True

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._read()
            except KafkaError as exc:
                log.debug("kafka.feed_broken", topic=self._topic, error_type=type(exc).__name__)
                time.sleep(_AGAIN_SECONDS)

    def _read(self) -> None:
        consumer = make_consumer(self._settings, auto_offset_reset="earliest", metadata_max_age_ms=_METADATA_MILLIS)
        try:
            while not self._stopped:
                self._assign(consumer)
                while self._asked:
                    ends = self._ends(consumer)
                    self._post(self._asked.popleft(), ends)
                for partition, records in consumer.poll(timeout_ms=_POLL_MILLIS).items():
                    self._next[partition] = records[-1].offset + 1
                    self._post(self._hand_over, records)
        finally:
            consumer.close(timeout_ms=1_000)

    def _assign(self, consumer: Any) -> None:
        """Where nothing was read yet from the end; a partition that came later from its beginning."""
        partitions = [TopicPartition(self._topic, each) for each in consumer.partitions_for_topic(self._topic)]
        if self._begun and set(partitions) == consumer.assignment():
            return
        if not self._begun:
            self._next.update(consumer.end_offsets(partitions))
            self._begun = True
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, self._next.setdefault(partition, 0))

    def _ends(self, consumer: Any) -> dict[int, int]:
        ends = consumer.end_offsets(list(consumer.assignment()))
        return {partition.partition: offset for partition, offset in ends.items()}

    def _hand_over(self, records: list[Any]) -> None:
        if self._deliver is None or self._stopped:
            return
        for record in records:
            self._deliver(Position(record.partition, record.offset), record.key, record.value, record.headers)

    def _post(self, call: Callable[..., None], argument: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, argument)
