"""What the processes of `imageflow up` say: one line at a time, with the name of who said it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

from imageflow_common.logs import text_line

LogFormat = Literal["text", "json"]

OWN_NAME: Final = "imageflow"
MAX_LINE_BYTES: Final = 256 * 1024
"""A longer line is passed on in pieces."""

_MAX_WAITING_LINES = 1_000
_RETRY_SECONDS = 0.02
_NAME_WIDTH = 12
_IN_FRONT = {"level", "logger", "service"}
_TOLD_FIRST = ("method", "path", "status", "duration_ms")


class LogSink:
    """Writes lines whole, from a thread of its own: a terminal that stands still holds up the children that write,
    and never the event loop. A reader that has gone away (a closed pipe) loses lines, nothing else."""

    def __init__(self, stream: TextIO, style: LogFormat) -> None:
        self._stream = stream
        self._style = style
        self._lines: queue.Queue[str | None] = queue.Queue(_MAX_WAITING_LINES)
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()

    async def pass_on(self, name: str, line: str) -> None:
        """A line of a child's; waits while too many lines are waiting."""
        text = self._child_line(name, line)
        while True:
            try:
                return self._lines.put_nowait(text)
            except queue.Full:
                await asyncio.sleep(_RETRY_SECONDS)

    def say(self, event: str, text: str, **fields: object) -> None:
        """A remark of our own; dropped when too many lines are waiting."""
        line = self._own_json(event, fields) if self._style == "json" else self._prefixed(OWN_NAME, text)
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Writes what waits, unless that takes too long."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=timeout_seconds)
            self._thread.join(timeout_seconds)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(f"{line}\n")
                self._stream.flush()

    def _child_line(self, name: str, line: str) -> str:
        if self._style == "text":
            return self._prefixed(name, _readable(name, line))
        return line if line.startswith("{") else json.dumps({**_stamp(), "logger": name, "message": line})

    def _own_json(self, event: str, fields: dict[str, object]) -> str:
        return json.dumps({**_stamp(), "logger": OWN_NAME, "message": event, **fields})

    def _prefixed(self, name: str, line: str) -> str:
        return f"{name:<{_NAME_WIDTH}} | {line}"


async def read_lines(stream: asyncio.StreamReader, name: str, sink: LogSink) -> None:
    """Passes on all that a child writes, until it closes its end."""
    rest = b""
    while data := await stream.read(64 * 1024):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            await sink.pass_on(name, _text(line))
        while len(rest) >= MAX_LINE_BYTES:
            piece, rest = rest[:MAX_LINE_BYTES], rest[MAX_LINE_BYTES:]
            await sink.pass_on(name, _text(piece))
    if rest:
        await sink.pass_on(name, _text(rest))


def _readable(name: str, line: str) -> str:
    """The gateway has but one form for its access log, JSON, which becomes a line like those of the services."""
    if not line.startswith("{"):
        return line
    try:
        fields = json.loads(line)
        time, event = datetime.fromisoformat(fields.pop("timestamp")), str(fields.pop("message"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
    told = {key: fields[key] for key in (*_TOLD_FIRST, *fields) if key not in _IN_FRONT and fields.get(key) is not None}
    return text_line(time.astimezone().strftime("%H:%M:%S"), "INFO", name, event, told)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")


def _stamp() -> dict[str, str]:
    return {"timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": "INFO"}
