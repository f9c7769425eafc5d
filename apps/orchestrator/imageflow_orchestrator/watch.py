"""Watching an execution: how it stands, then every event, the terminal one last."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.execution_service_pb2 import ExecutionEvent
from imageflow_common.errors import NotFound, Unavailable
from imageflow_common.events import Event, Events, Lagged

from .executions import Executions
from .news import NAMESPACE_HEADER, PROGRESS_TOPIC
from .records import has_ended

_LOOK_AGAIN_SECONDS = 2.0
"""How often the record is looked at although no event came: events are hints, the record is the truth."""
_LOOKS_PER_SIGN = 10
"""After so many looks in vain a watcher is told that all is as it was, lest a proxy take the stream for dead."""


class Watcher:
    """Serves watches."""

    def __init__(self, executions: Executions, events: Events) -> None:
        self._executions = executions
        self._events = events

    async def watch(self, namespace: str, execution_id: str, after_event: int) -> AsyncIterator[ExecutionEvent]:
        """Raises NotFound before the first message. Events up to `after_event` are not told again; those between it
        and now are, as far as they are kept."""
        async with self._news(execution_id) as news:
            standing = await self._executions.known(namespace, execution_id)
            yield _snapshot(standing)
            if has_ended(standing):
                return
            seen = standing.last_event_number
            for event in self._kept(namespace, execution_id, after_event, seen):
                yield _told(event)
            async for told in self._follow(namespace, execution_id, news, seen):
                yield told

    @asynccontextmanager
    async def _news(self, execution_id: str) -> AsyncIterator[AsyncIterator[Event | Lagged]]:
        """None at all while they cannot be heard: then the record alone is looked at."""
        async with AsyncExitStack() as entered:
            try:
                news = await entered.enter_async_context(self._events.subscribe(PROGRESS_TOPIC, key=execution_id))
            except Unavailable:
                news = _silence()
            yield news

    async def _follow(
        self, namespace: str, execution_id: str, news: AsyncIterator[Event | Lagged], seen: int
    ) -> AsyncIterator[ExecutionEvent]:
        missed = quiet = 0
        while True:
            received = await _next(news)
            if isinstance(received, Lagged):
                missed += received.missed
                continue
            if received is not None and not _concerns(received, namespace, seen):
                continue
            if received is not None and not missed and not _is_last(received):
                seen = received.number
                yield _told(received)
                continue
            try:
                standing = await self._executions.known(namespace, execution_id)
            except NotFound:
                yield ExecutionEvent(number=seen, execution_id=execution_id, message="deleted", terminal=True)
                return
            if received is None and not missed and not has_ended(standing):
                quiet += 1
                if quiet % _LOOKS_PER_SIGN == 0:
                    yield ExecutionEvent(number=seen, execution_id=execution_id, status=standing.status)
                continue
            told = _told(received) if received is not None else ExecutionEvent(execution_id=execution_id)
            told.execution.CopyFrom(standing)
            told.number = max(told.number, seen if received is None else told.number)
            told.missed, missed = missed, 0
            told.status, told.terminal = standing.status, has_ended(standing)
            seen = max(seen, told.number)
            yield told
            if told.terminal:
                return

    def _kept(self, namespace: str, execution_id: str, after: int, up_to: int) -> list[Event]:
        live = self._executions.live(namespace, execution_id)
        if live is None or not after:
            return []
        return [event for event in live.news.kept if event.topic == PROGRESS_TOPIC and after < event.number <= up_to]


async def _silence() -> AsyncIterator[Event | Lagged]:
    await asyncio.Event().wait()
    yield Lagged(1)


async def _next(news: AsyncIterator[Event | Lagged]) -> Event | Lagged | None:
    """The next event; None when there was none for a while."""
    try:
        async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
            return await anext(news)
    except TimeoutError:
        return None
    except StopAsyncIteration:  # there will be none any more
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return None


def _concerns(event: Event, namespace: str, seen: int) -> bool:
    return event.number > seen and event.headers.get(NAMESPACE_HEADER) == namespace


def _is_last(event: Event) -> bool:
    body = json.loads(event.body)
    return not body["step_id"] and body["status"] in ("completed", "failed", "cancelled")


def _snapshot(standing: Execution) -> ExecutionEvent:
    event = ExecutionEvent(
        execution_id=standing.execution_id, status=standing.status, execution=standing, terminal=has_ended(standing)
    )
    event.event_time.GetCurrentTime()
    return event


def _told(event: Event) -> ExecutionEvent:
    body = json.loads(event.body)
    told = ExecutionEvent(
        number=event.number,
        execution_id=body["execution_id"],
        step_id=body["step_id"],
        status=body["status"].upper(),
        message=body["message"],
    )
    told.event_time.FromDatetime(datetime.fromisoformat(body["timestamp"]))
    return told
