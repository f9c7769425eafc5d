"""The topics at the broker: which there are, and those that are missing made."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from .errors import ImageFlowError, Unavailable
from .kafka_errors import as_error
from .kafka_settings import KafkaSettings

_QUICKLY_SECONDS = 1.0


def missing_topics(settings: KafkaSettings, names: Iterable[str]) -> list[str]:
    """Those of the topics, by their full names, that the broker has not. Blocks. Raises Unavailable,
    PermissionDenied."""
    try:
        client = KafkaAdminClient(**settings.client_options())
        try:
            there = set(client.list_topics())
        finally:
            client.close()
    except KafkaError as exc:
        raise as_error(exc) from exc
    return [topic for name in names if (topic := settings.topic(name)) not in there]


def is_missing(settings: KafkaSettings, topic: str) -> bool:
    """Whether the broker answers, quickly, that it has no topic of this full name. Blocks."""
    quickly = settings.model_copy(update={"timeout_seconds": _QUICKLY_SECONDS, "topic_prefix": ""})
    with suppress(Unavailable):
        return bool(missing_topics(quickly, [topic]))
    return False


def is_reachable(settings: KafkaSettings) -> bool:
    """Whether a broker answers, quickly. Blocks."""
    try:
        missing_topics(settings.model_copy(update={"timeout_seconds": _QUICKLY_SECONDS}), [])
    except Unavailable:
        return False
    except ImageFlowError:
        return True
    return True


def create_topics(settings: KafkaSettings, names: Iterable[str], *, partitions: int | None = None) -> None:
    """Makes the topics that are missing. Blocks. Raises as `missing_topics`."""
    missing = missing_topics(settings, names)
    try:
        client = KafkaAdminClient(**settings.client_options())
        try:
            for topic in missing:
                with suppress(TopicAlreadyExistsError):  # somebody else did, just now
                    made = NewTopic(topic, partitions or settings.partitions, settings.replication_factor)
                    client.create_topics([made])
        finally:
            client.close()
    except KafkaError as exc:
        raise as_error(exc) from exc
