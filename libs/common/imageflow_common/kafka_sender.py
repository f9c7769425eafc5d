"""Sends messages to Kafka from an event loop, and waits for the broker to have them.

kafka-python sends from a thread of its own and buffers without bound while the broker is away. So at most
`max_in_flight` messages are handed to it, and once one was not acknowledged in time all others are refused at once,
until the broker answers again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from opentelemetry import metrics

from .errors import ImageFlowError, Unavailable
from .kafka_errors import as_error, away
from .kafka_settings import KafkaSettings
from .kafka_topics import is_missing, is_reachable
from .logs import EventLog
from .telemetry import duration_histogram

log = EventLog(__name__)
logging.getLogger("kafka").setLevel(logging.CRITICAL)  # an outage is a line of ours, not a hundred a second of its own

_CLOSE_SECONDS = 2.0
_ASK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as Kafka has it. `topic` is its full name there."""

    topic: str
    key: bytes | None
    body: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class KafkaSender:
    """One producer: idempotent, acknowledged by all replicas in sync. Used from one event loop; connects when first
    used.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._options = settings.client_options()
        self._slots = asyncio.Semaphore(settings.max_in_flight)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="kafka-send")
        self._connecting: asyncio.Future[Any] | None = None
        self._producer: Any = None
        self._known: set[str] = set()
        self._waiting: asyncio.Task[None] | None = None  # for the broker, while it is away
        self._closed = False
        meter = metrics.get_meter("imageflow")
        self._duration = duration_histogram(
            meter, "imageflow.bus.send.duration", "Time until the broker has acknowledged a message"
        )
        self._errors = meter.create_counter(
            "imageflow.bus.errors.total", description="Messages that could not be sent, by reason"
        )

    @property
    def is_away(self) -> bool:
        """Whether a message was not acknowledged in time, and the broker has not answered since."""
        return self._waiting is not None

    async def send(self, message: Outgoing) -> None:
        """Returns when the broker has the message. Raises Unavailable (then it may have it nevertheless),
        InvalidArgument for one that is too large, PermissionDenied.
        """
        if self._closed:
            raise Unavailable("the connection to Kafka is closed")
        begun, status = perf_counter(), "failed"
        try:
            await self._send_unless_away(message)
            status = "success"
        except ImageFlowError as exc:
            self._errors.add(1, {"topic": message.topic, "reason": exc.reason})
            raise
        finally:
            self._duration.record(perf_counter() - begun, {"topic": message.topic, "status": status})

    async def _send_unless_away(self, message: Outgoing) -> None:
        if self.is_away:
            raise away()
        try:
            async with asyncio.timeout(self._settings.timeout_seconds * 1.5):
                await self._send(message)
        except (TimeoutError, KafkaError) as exc:
            error = as_error(exc)
            if isinstance(error, Unavailable) and not self.is_away and not self._closed:
                log.warning("kafka.away", error_type=error.reason)
                self._waiting = asyncio.create_task(self._wait_for_broker())
            raise error from exc

    async def close(self) -> None:
        """Waits a little for what is being sent."""
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.gather(self._waiting, return_exceptions=True)
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        await self._let_producer_go(_CLOSE_SECONDS)
        self._threads.shutdown(wait=False)

    async def _send(self, message: Outgoing) -> None:
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            self._slots.release()
            if acknowledged.done():
                return
            if error is None:
                acknowledged.set_result(None)
            else:
                acknowledged.set_exception(error)

        def told(error: BaseException | None) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, error)

        try:
            producer = await self._connected()
            if message.topic not in self._known:
                await self._look_up(producer, message.topic)
            sent = producer.send(message.topic, message.body, message.key, list(message.headers))
        except BaseException:
            self._slots.release()
            raise
        sent.add_callback(lambda _: told(None))
        sent.add_errback(told)
        try:
            await acknowledged
        except KafkaError:
            self._known.discard(message.topic)
            raise

    async def _connected(self) -> Any:
        if self._producer is not None:
            return self._producer
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._in_thread(self._connect))
        try:
            await asyncio.shield(self._connecting)
        finally:
            if self._connecting is not None and self._connecting.done():
                self._connecting = None
        return self._producer

    def _connect(self) -> None:
        millis = int(self._settings.timeout_seconds * 1_000)
        self._producer = KafkaProducer(
            **self._options,
            allow_auto_create_topics=False,
            delivery_timeout_ms=millis,
            max_block_ms=millis,
            metrics_enabled=False,
        )

    async def _look_up(self, producer: Any, topic: str) -> None:
        """Raises Unavailable for a topic that is not there."""
        try:
            await self._in_thread(lambda: producer.partitions_for(topic))
        except KafkaTimeoutError as exc:
            if await self._in_thread(lambda: is_missing(self._settings, topic)):
                raise Unavailable("a topic is missing at the broker", reason="TOPIC_MISSING") from exc
            raise
        self._known.add(topic)

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _wait_for_broker(self) -> None:
        while not await asyncio.to_thread(is_reachable, self._settings):  # noqa: ASYNC110
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        await self._let_producer_go(0)
        self._waiting = None
        log.info("kafka.back")

    async def _let_producer_go(self, seconds: float) -> None:
        """An idempotent producer whose messages were not acknowledged in time may never get one through again, though
        the broker is back: kafka-python 3.0.12 waits for what it has itself given up."""
        producer, self._producer = self._producer, None
        self._known.clear()
        if producer is not None:
            await self._in_thread(lambda: _end(producer, seconds))


def _end(producer: Any, seconds: float) -> None:
    try:
        producer.close(timeout=seconds)
    except KafkaError:  # there is something that it could not send: it would try for ever
        producer._sender.force_close()


def write_headers(headers: Mapping[str, str]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value.encode()) for name, value in headers.items())


def read_headers(headers: object) -> dict[str, str]:
    """As text; what is no UTF-8 is replaced, and of two with one name the last counts."""
    pairs = headers if isinstance(headers, list | tuple) else ()
    return {str(name): (value or b"").decode(errors="replace") for name, value in pairs}
