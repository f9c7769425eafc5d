"""Logs are events with fields: JSON lines for machines, readable lines for a terminal."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from opentelemetry import trace

_JSON = json.JSONEncoder(default=str, ensure_ascii=False)
DEBUG_SIGNAL, USUAL_SIGNAL = signal.SIGUSR1, signal.SIGUSR2
_levels: dict[int, int] = {}
_call_fields: ContextVar[Mapping[str, object]] = ContextVar("call_fields", default=MappingProxyType({}))


def log_with(**fields: object) -> None:
    """Adds these fields to every event that is logged in the rest of this task, and in what it starts."""
    _call_fields.set({**_call_fields.get(), **fields})


class EventLog:
    """Logs `event` with fields: `log.info("step.finished", step_id=…, processing_time_seconds=…)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: BaseException | bool = False, **fields: object) -> None:
        self._log(logging.ERROR, event, fields, exc_info)

    def _log(self, level: int, event: str, fields: dict[str, object], exc_info: BaseException | bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(
                level, event, extra={"fields": {**_call_fields.get(), **fields}}, exc_info=exc_info or None
            )


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, message, service, version, trace_id, span_id, fields."""

    def __init__(self, *, service: str, version: str) -> None:
        super().__init__()
        self._constant = {"service": service, "version": version}

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._constant,
            **_trace_fields(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _JSON.encode(entry)


class TextFormatter(logging.Formatter):
    """`12:00:01 INFO  service  event key=value`. Values may come from callers: what they hold of control characters is
    escaped, so that none of them ends the line or reaches the terminal."""

    def __init__(self, *, service: str) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = text_line(
            self.formatTime(record, self.datefmt),
            record.levelname,
            self._service,
            record.getMessage(),
            getattr(record, "fields", {}),
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def text_line(time: str, level: str, service: str, event: str, fields: Mapping[str, object]) -> str:
    """One event for a person's terminal."""
    values = " ".join(f"{key}={printable(str(value))}" for key, value in fields.items())
    return f"{time} {level:<7} {service:<12} {event} {values}".rstrip()


def printable(text: str, *, but: str = "") -> str:
    """What a terminal shows as it stands; whatever else is escaped, `but` for these characters."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in but else each.encode("unicode_escape").decode() for each in text
    )


def configure_logs(*, service: str, version: str, style: Literal["json", "text"], level: str) -> None:
    """Sends the whole process's logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(service=service, version=version) if style == "json" else TextFormatter(service=service)
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for noisy in ("pyvips", "asyncio", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _levels[DEBUG_SIGNAL], _levels[USUAL_SIGNAL] = logging.DEBUG, logging.getLogger().level


def set_level(level: str) -> None:
    """From now on, and by `USUAL_SIGNAL`."""
    logging.getLogger().setLevel(level)
    _levels[USUAL_SIGNAL] = logging.getLogger().level


def set_level_by(number: int) -> None:
    """What the two signals do: `DEBUG_SIGNAL` has everything logged, `USUAL_SIGNAL` what the settings
    say."""
    level = _levels.get(number)
    if level is not None:
        logging.getLogger().setLevel(level)
        EventLog(__name__).warning("log.level", set_to=logging.getLevelName(level))


def _trace_fields() -> dict[str, str]:
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
