"""An execution's events as they come: JSON lines, plain lines, or a table that lives."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from .output import Output, message_json
from .reports import state_name

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from imageflow.v1.execution_pb2 import Execution
    from imageflow.v1.execution_service_pb2 import ExecutionEvent

_STYLES = {"RUNNING": "cyan", "COMPLETED": "green", "FAILED": "red", "CANCELLED": "yellow", "SKIPPED": "yellow"}


def watch_to_end(url: str, execution_id: str, out: Output, *, after_event: int = 0) -> None:
    """Shows an execution until it has ended, then what it came to; ends this process with status 1 unless it
    completed."""
    from .blocking import ask
    from .client import Client
    from .exits import Exit
    from .reports import show_execution

    async def question(client: Client) -> ExecutionEvent:
        with view(out) as shown:
            async for event in client.watch_execution(execution_id, after_event=after_event):
                shown.show(event)
        return event

    last = ask(url, question)
    if last.HasField("execution"):
        show_execution(out, last.execution)
    if state_name(last.status) != "COMPLETED":
        sys.exit(Exit.FAILED)


class View(Protocol):
    """Shows events."""

    def show(self, event: ExecutionEvent) -> None: ...


@contextmanager
def view(out: Output) -> Iterator[View]:
    """The view that fits where the output goes."""
    if out.as_json:
        yield JsonLines()
    elif sys.stdout.isatty():
        from rich.live import Live

        with Live(refresh_per_second=8) as live:
            yield LiveTable(live)
    else:
        yield PlainLines(out)


class JsonLines:
    """Each event as one line of JSON."""

    def show(self, event: ExecutionEvent) -> None:
        print(json.dumps(message_json(event), ensure_ascii=False), flush=True)


class PlainLines:
    """Each change as one line: time, number, step or `execution`, state, remark. A sign that nothing has changed is
    no line."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._last = ""

    def show(self, event: ExecutionEvent) -> None:
        what = event.step_id or "execution"
        state = state_name(event.status)
        said = f"{what} {state} {event.message}".rstrip()
        if not event.step_id and said == self._last and not event.missed:
            return
        if not event.step_id:
            self._last = said
        missed = f" ({event.missed} events missed)" if event.missed else ""
        moment = event.event_time.ToDatetime(UTC) if event.HasField("event_time") else datetime.now(UTC)
        self._out.line(f"{moment:%Y-%m-%dT%H:%M:%SZ}  {event.number}  {said}{missed}")
        sys.stdout.flush()


class LiveTable:
    """A row for each step that has been heard of, and the execution's own state above."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._title = ""
        self._steps: dict[str, tuple[str, str]] = {}

    def show(self, event: ExecutionEvent) -> None:
        if event.HasField("execution"):
            self._take(event.execution)
        if event.step_id:
            self._steps[event.step_id] = (state_name(event.status), event.message)
        else:
            self._title = f"{event.execution_id}: {state_name(event.status)} {event.message}".rstrip()
        self._live.update(self.table())

    def _take(self, execution: Execution) -> None:
        for step_id, outcome in execution.results.items():
            if outcome.status:
                self._steps[step_id] = (state_name(outcome.status), outcome.message)

    def table(self) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table("step", "state", "", title=Text(self._title), title_justify="left", box=box.SIMPLE_HEAD)
        for step_id, (state, message) in self._steps.items():
            table.add_row(Text(step_id), Text(state, _STYLES.get(state, "")), Text(message))
        return table
