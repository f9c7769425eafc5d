"""An execution of this process that has not ended: how it stands, and how it is ended from outside."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import Cancelled

from .checkpoint import Checkpoint
from .news import News
from .records import has_ended
from .run import Run

Key = tuple[str, str]
"""A namespace and an execution id."""


@dataclass(slots=True, eq=False)
class Live:
    """Accepted, waiting or running. `begun` once its task is at work, `stored` once its outcome is in the store;
    `counted` are the events that the record counts and that are not told before."""

    checkpoint: Checkpoint
    news: News
    run: Run | None = None
    task: asyncio.Task[Any] | None = None
    begun: bool = False
    stored: bool = False
    counted: int = 0
    cancel_message: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def record(self) -> ExecutionRecord:
        return self.checkpoint.record

    @property
    def execution(self) -> Execution:
        return self.record.execution

    @property
    def key(self) -> Key:
        return self.execution.namespace, self.execution.execution_id

    def standing(self) -> Execution:
        """A copy for callers: an outcome that is not stored yet is none."""
        copy = Execution()
        copy.CopyFrom(self.execution)
        if has_ended(copy) and not self.stored:
            copy.status = Execution.RUNNING
            copy.last_event_number -= self.counted
            copy.final_output_path = ""
            copy.ClearField("error")
            copy.ClearField("end_time")
        return copy

    def refuse_cancelled(self) -> None:
        """Raises Cancelled when its end was asked for before it began."""
        if self.record.cancel_requested:
            raise Cancelled(self.record.cancel_message or "cancelled on request")
        if self.cancel_message is not None:
            raise Cancelled(self.cancel_message)

    def cancel(self, message: str) -> None:
        """Ends it as CANCELLED: what runs is stopped, what waits for its turn waits no longer."""
        if self.cancel_message is not None:
            return
        self.cancel_message = message
        if self.run is not None:
            self.run.cancel(message)
        elif self.begun and self.task is not None:
            self.task.cancel()
