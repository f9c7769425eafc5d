"""Logs: one event a line, with the fields that R62 names."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import pytest
from opentelemetry import context as otel_context

from imageflow_common.logs import EventLog, configure_logs, log_with
from imageflow_common.telemetry import context_from_metadata

TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}
TRACEPARENT = f"00-{TRACE['trace_id']}-{TRACE['span_id']}-01"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logging of the test run, afterwards as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Any:
    """Configures logs in a style; answers a function that takes what was logged since."""

    def configure(style: Literal["json", "text"], level: str = "INFO") -> Any:
        configure_logs(service="probe", version="1.2.0", style=style, level=level)
        return lambda: capsys.readouterr().err.splitlines()

    return configure


def test_a_json_line_has_the_constant_and_the_given_fields(lines: Any) -> None:
    logged = lines("json")
    EventLog("a.b").info("step.finished", processing_time_seconds=0.5, input_path="a/ü.png", error_type=None)
    (line,) = logged()
    entry = json.loads(line)
    assert datetime.fromisoformat(entry.pop("timestamp")).utcoffset() is not None
    assert entry == {
        "level": "INFO",
        "logger": "a.b",
        "message": "step.finished",
        "service": "probe",
        "version": "1.2.0",
        "processing_time_seconds": 0.5,
        "input_path": "a/ü.png",
        "error_type": None,
    }


def test_a_line_inside_a_trace_says_which(lines: Any) -> None:
    logged = lines("json")
    token = otel_context.attach(context_from_metadata([("traceparent", TRACEPARENT)]))
    EventLog("a").info("event")
    otel_context.detach(token)
    EventLog("a").info("event")
    inside, outside = map(json.loads, logged())
    assert inside.items() >= TRACE.items()
    assert not outside.keys() & TRACE.keys()


async def test_the_fields_of_a_call_are_in_all_its_lines_and_in_no_others(lines: Any) -> None:
    logged = lines("json")

    async def call(number: int) -> None:
        log_with(execution_id=f"e{number}", step_id="s")
        await asyncio.to_thread(EventLog("a").info, "event", number=number)
        EventLog("a").info("event", number=number, step_id="own")

    await asyncio.gather(call(1), call(2))
    EventLog("a").info("event")
    *inside, outside = map(json.loads, logged())
    assert len(inside) == 4
    assert all(entry["execution_id"] == f"e{entry['number']}" for entry in inside)
    assert [entry["step_id"] for entry in inside if entry["number"] == 1] == ["s", "own"]
    assert "execution_id" not in outside


def test_an_exception_is_one_line_of_json(lines: Any) -> None:
    logged = lines("json")
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError as exc:
        EventLog("a").error("failed", exc_info=exc)
    (line,) = logged()
    assert "RuntimeError: two\nlines" in json.loads(line)["exception"]


def test_a_value_of_any_type_is_shown(lines: Any) -> None:
    logged = lines("json")
    EventLog("a").info("event", path=datetime(2026, 1, 2), text="\n\x1b")
    (line,) = logged()
    assert json.loads(line)["path"] == "2026-01-02 00:00:00"


def test_a_text_line_is_for_people(lines: Any) -> None:
    logged = lines("text")
    EventLog("a").warning("step.failed", step_id="s1", error="no")
    (line,) = logged()
    assert line[8:] == " WARNING probe        step.failed step_id=s1 error=no"


def test_what_is_below_the_level_is_not_written(lines: Any) -> None:
    logged = lines("json", "WARNING")
    EventLog("a").info("event")
    EventLog("a").debug("event")
    assert logged() == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\nERROR forged", r"a\nERROR forged"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("\x00\x9b\u202e", r"\x00\x9b\u202e"),
        ("größer als 3 €", "größer als 3 €"),
    ],
)
def test_a_readable_line_has_no_control_characters_of_a_callers(lines: Any, given: str, shown: str) -> None:
    logged = lines("text")
    EventLog("a.b").info("rpc.failed", error=given)
    (line,) = logged()
    assert line.endswith(f"rpc.failed error={shown}")
