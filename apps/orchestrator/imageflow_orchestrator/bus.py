"""The broker as an orchestrator uses it: one sender, the news, the queue of requests, and the topics that they need."""

from __future__ import annotations

import asyncio

from imageflow_common.errors import ImageFlowError
from imageflow_common.kafka_events import KafkaEvents
from imageflow_common.kafka_sender import KafkaSender
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics, missing_topics
from imageflow_common.kafka_workqueue import KafkaWorkQueue
from imageflow_common.logs import EventLog

from .news import REQUEST_TOPIC, TOPICS

log = EventLog(__name__)

_AGAIN_SECONDS = 2.0


class KafkaBus:
    """Raises InvalidArgument for settings that do not fit together; connects when it is used."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self._sender = KafkaSender(settings)
        self._not_ready = "Kafka has not been heard of yet: what was accepted waits"
        self.events = KafkaEvents(settings, self._sender)
        self.queue = KafkaWorkQueue(settings, self._sender, REQUEST_TOPIC)

    def degraded(self) -> list[str]:
        """What is wrong with the broker, in words, as far as it is known."""
        if self._sender.is_away:
            return ["Kafka is not reachable: what is to be told waits"]
        return [self._not_ready] if self._not_ready else []

    async def prepare(self) -> None:
        """Returns when the topics are there: those that are missing are made, where that is asked for, else told of."""
        told = ""
        while True:
            try:
                if self.settings.create_topics:
                    await asyncio.to_thread(create_topics, self.settings, TOPICS)
                missing = await asyncio.to_thread(missing_topics, self.settings, TOPICS)
                fault = "TOPIC_MISSING" if missing else ""
            except ImageFlowError as exc:
                missing, fault = [], exc.reason
            self._not_ready = f"Kafka is not ready ({fault}): what was accepted waits" if fault else ""
            if not fault:
                return
            if fault != told:
                being_made = missing and self.settings.create_topics  # it takes the broker a moment
                (log.info if being_made else log.error)("kafka.not_ready", error_type=fault, topics=missing)
            told = fault
            await asyncio.sleep(_AGAIN_SECONDS)

    async def close(self) -> None:
        await self.queue.close()
        await self.events.close()
        await self._sender.close()
