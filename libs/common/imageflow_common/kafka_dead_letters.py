"""Reads the dead letters of a topic: what was given up, why, and where it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from .kafka_consumer import make_consumer
from .kafka_errors import as_error
from .kafka_sender import read_headers
from .kafka_settings import KafkaSettings
from .kafka_workqueue import DEAD_LETTER_PREFIX, DEAD_LETTERS, LEFT_OUT_HEADER, REASON_HEADER
from .workqueue import DeadLetter, Message

_POLL_MILLIS = 500


@dataclass(frozen=True, slots=True)
class Buried:
    """A dead letter at its place: `headers` are the sender's own, `about` is what was noted when it was given up.
    `left_out`: the body was too large to keep, and is only at its first place."""

    partition: int
    offset: int
    key: bytes | None
    body: bytes
    headers: tuple[tuple[str, bytes], ...]
    reason: str
    about: dict[str, str]
    left_out: bool

    @property
    def place(self) -> str:
        return f"{self.partition}/{self.offset}"


def buried(settings: KafkaSettings, topic: str) -> Iterator[Buried]:
    """Every dead letter that the topic has now, by partition and offset. Blocks. Raises Unavailable,
    PermissionDenied."""
    name = DEAD_LETTERS.format(topic=settings.topic(topic))
    try:
        consumer = make_consumer(settings)
        try:
            for partition in sorted(consumer.partitions_for_topic(name)):
                yield from _read(consumer, TopicPartition(name, partition))
        finally:
            consumer.close(timeout_ms=1_000)
    except KafkaError as exc:
        raise as_error(exc) from exc


def dead_letters(settings: KafkaSettings, topic: str) -> Iterator[DeadLetter]:
    """Those of `buried` that are messages of ours."""
    for each in buried(settings, topic):
        key = (each.key or b"").decode(errors="replace")
        yield DeadLetter(Message(key or each.place, each.body, read_headers(each.headers)), each.reason)


def _read(consumer: Any, partition: TopicPartition) -> Iterator[Buried]:
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    while consumer.position(partition) < end:
        for record in consumer.poll(timeout_ms=_POLL_MILLIS).get(partition, ()):
            if record.offset < end:
                yield _buried(record)


def _buried(record: Any) -> Buried:
    ours = {name: value for name, value in read_headers(record.headers).items() if name.startswith(DEAD_LETTER_PREFIX)}
    return Buried(
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        body=record.value or b"",
        headers=tuple((name, value or b"") for name, value in record.headers if name not in ours),
        reason=ours.get(REASON_HEADER, ""),
        about={name.removeprefix(DEAD_LETTER_PREFIX): value for name, value in ours.items()},
        left_out=LEFT_OUT_HEADER in ours,
    )
