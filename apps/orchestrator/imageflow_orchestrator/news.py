"""What the world is told of an execution while it runs and when it ends (R40-R42): numbered, in order, on the bus.

Messages are JSON in snake_case with states in lower case. Progress goes to `pipeline-progress`, for steps and, with an
empty `step_id`, for the execution itself; the completion, which is also the final notice, to `pipeline-completions`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from datetime import datetime

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import ImageFlowError
from imageflow_common.events import Event, Events
from imageflow_common.logs import EventLog
from imageflow_common.telemetry import context_to_metadata

from .records import now

log = EventLog(__name__)

PROGRESS_TOPIC = "pipeline-progress"
COMPLETION_TOPIC = "pipeline-completions"
REQUEST_TOPIC = "pipeline-executions"
CONTROL_TOPIC = "pipeline-control"
TOPICS = (REQUEST_TOPIC, f"{REQUEST_TOPIC}-dlq", PROGRESS_TOPIC, COMPLETION_TOPIC, CONTROL_TOPIC)
NAMESPACE_HEADER = "imageflow-namespace"
VERSION_HEADER = "imageflow-schema-version"
SCHEMA_VERSION = "1"
CONTENT_TYPE_HEADER = "content-type"
CONTENT_TYPE = "application/json"
_KEPT_EVENTS = 4_096
COMPLETION_EVENTS = 2
"""An execution's last events: its last progress, and its completion."""
RESERVED_NUMBERS = 100_000
"""How far ahead of the last event a record reserves numbers: more than a run can use between two writes."""


class News:
    """Publishes one execution's events, in order and off the run's path; keeps the latest for those who ask again."""

    def __init__(self, events: Events, execution: Execution) -> None:
        self._events = events
        self._execution = execution
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue()
        self._publisher: asyncio.Task[None] | None = None
        self._untold = False
        self.kept: deque[Event] = deque(maxlen=_KEPT_EVENTS)

    def progress(self, step_id: str, status: str, message: str = "") -> None:
        """Says where a step, or with an empty id the execution, is now."""
        self._execution.last_event_number += 1
        self._tell(
            PROGRESS_TOPIC, self._execution.last_event_number, self._progress(step_id, status, message, at=now())
        )

    def completion(self) -> None:
        """Says what the execution came to, after the record says so too, and only what the record says: so it can be
        said again. Its numbers are the execution's last `COMPLETION_EVENTS`, which the record must count already."""
        execution = self._execution
        status, ended = Execution.State.Name(execution.status), execution.end_time.ToDatetime()
        self._untold = False
        number = execution.last_event_number
        self._tell(PROGRESS_TOPIC, number - 1, self._progress("", status, execution.error.message, at=ended))
        body = {
            "execution_id": execution.execution_id,
            "status": status.lower(),
            "execution_time": round(execution.execution_time_ms / 1e3, 6),
            "output_path": execution.final_output_path,
            "processing_time": round(sum(s.processing_time_ms for s in execution.results.values()) / 1e3, 6),
            "completed_at": timestamp(ended),
            "message": execution.error.message,
        }
        self._tell(COMPLETION_TOPIC, number, body)

    async def flush(self) -> bool:
        """Waits until everything told so far is published; answers whether all since `completion` was."""
        if self._publisher is not None:
            self._waiting.put_nowait(None)
            await self._publisher
            self._publisher = None
        return not self._untold

    async def close(self) -> None:
        """Publishes no more."""
        if self._publisher is not None:
            self._publisher.cancel()
            await asyncio.gather(self._publisher, return_exceptions=True)
            self._publisher = None

    def _progress(self, step_id: str, status: str, message: str, *, at: datetime) -> dict[str, object]:
        return {
            "execution_id": self._execution.execution_id,
            "step_id": step_id,
            "status": status.lower(),
            "message": message,
            "timestamp": timestamp(at),
        }

    def _tell(self, topic: str, number: int, body: Mapping[str, object]) -> None:
        event = message(topic, self._execution.namespace, self._execution.execution_id, number, body)
        self.kept.append(event)
        self._waiting.put_nowait(event)
        if self._publisher is None:
            self._publisher = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        while (event := await self._waiting.get()) is not None:
            try:
                await self._events.publish(event)
            except ImageFlowError as exc:
                self._untold = True
                log.debug("event.not_published", execution_id=event.key, topic=event.topic, error_type=exc.reason)


def message(topic: str, namespace: str, execution_id: str, number: int, body: Mapping[str, object]) -> Event:
    """As every topic of ours has it: JSON, with headers that say what it is and which trace it belongs to."""
    headers = {
        CONTENT_TYPE_HEADER: CONTENT_TYPE,
        VERSION_HEADER: SCHEMA_VERSION,
        NAMESPACE_HEADER: namespace,
        **dict(context_to_metadata()),
    }
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Event(topic, execution_id, number, data, headers)


def refusal(namespace: str, execution_id: str, reason: str) -> Event:
    """The completion of what was asked for and is no execution. Its number, 0, is that of no other event."""
    body = {
        "execution_id": execution_id,
        "status": "failed",
        "execution_time": 0,
        "output_path": "",
        "processing_time": 0,
        "completed_at": timestamp(now()),
        "message": reason,
    }
    return message(COMPLETION_TOPIC, namespace, execution_id, 0, body)


def timestamp(moment: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ`, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
