"""The queue of accepted executions, shared among orchestrators: who holds the part of the broker's topic in which an
execution's id lies begins it, and tells of it (D8).

The markers in the store say what there is, as without a broker; messages only say that there is something to look at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import ImageFlowError, InvalidArgument, NotFound
from imageflow_common.events import Event, Events
from imageflow_common.logs import EventLog

from .executions import Executions
from .identity import DEFAULT_NAMESPACE, check_id
from .news import CONTROL_TOPIC, NAMESPACE_HEADER, message, timestamp
from .queue_lock import look_once
from .requests import Requests

log = EventLog(__name__)

_AGAIN_SECONDS = 1.0


class PartedQueue(Protocol):
    """A topic in parts, of which each member of a group holds some."""

    def join(self, moved: Callable[[], None]) -> None:
        """`moved` is called when `holds` answers otherwise than before, for good."""
        ...

    def holds(self, key: str) -> bool: ...


class SharedQueue:
    """This process's share: what lies in the parts that it holds. `prepared` returns when the broker is ready."""

    def __init__(
        self,
        queue: PartedQueue,
        prepared: Callable[[], Awaitable[None]],
        executions: Executions,
        requests: Requests,
        events: Events,
    ) -> None:
        self._queue = queue
        self._prepared = prepared
        self._executions = executions
        self._requests = requests
        self._events = events
        self._moved = asyncio.Event()

    def holds(self, execution_id: str) -> bool:
        return self._queue.holds(execution_id)

    async def pass_on(self, execution: Execution) -> None:
        """Every orchestrator hears it, and who is concerned looks at the record."""
        body = {"execution_id": execution.execution_id, "timestamp": timestamp(datetime.now(UTC))}
        number = execution.last_event_number
        event = message(CONTROL_TOPIC, execution.namespace, execution.execution_id, number, body)
        try:
            await self._events.publish(event)
        except ImageFlowError as exc:
            log.debug("execution.not_passed_on", execution_id=execution.execution_id, error_type=exc.reason)

    async def run(self) -> None:
        """Until cancelled."""
        self._executions.hold_queue(self)
        await self._prepared()
        self._queue.join(self._on_moved)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recover())
            tasks.create_task(self._listen())
            tasks.create_task(self._requests.run())

    def _on_moved(self) -> None:
        self._executions.leave()
        self._moved.set()

    async def _recover(self) -> None:
        """Looks at what is pending: when parts were moved, and now and then for what nobody was told of."""
        while True:
            self._moved.clear()
            pause = await look_once(self._executions.recover)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._moved.wait()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._events.subscribe(CONTROL_TOPIC) as passed_on:
                    async for event in passed_on:
                        if isinstance(event, Event):
                            await self._look(event)
            except ImageFlowError as exc:
                log.debug("control.not_heard", error_type=exc.reason)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _look(self, event: Event) -> None:
        try:
            named = json.loads(event.body)["execution_id"]
            namespace = check_id("namespace", event.headers.get(NAMESPACE_HEADER, DEFAULT_NAMESPACE))
            await self._executions.look((namespace, check_id("execution_id", named)))
        except (ValueError, KeyError, TypeError, InvalidArgument, NotFound):
            log.debug("control.passed_over", key=event.key)
        except ImageFlowError as exc:
            log.warning("control.not_followed", key=event.key, error_type=exc.reason)
