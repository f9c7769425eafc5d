"""The traces of an execution whose caller does not wait: each run has one, linked to whoever asked and to what ran
before. A message's own trace goes on in the first run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.telemetry import Spans, TracePlace, place_of

_MOST_LINKS: Final = 16
"""Kept in a record: the first, and the latest of those behind it."""


def link_to_caller(record: ExecutionRecord) -> None:
    """Has the record say in which trace it is accepted."""
    if not record.trace_parent and (traceparent := TracePlace.current().traceparent):
        record.trace_links.append(traceparent)


def continue_message(record: ExecutionRecord) -> None:
    """Has the first run go on with the trace that the message came with, if with any."""
    record.trace_parent = TracePlace.current().traceparent


@contextmanager
def traced_run(spans: Spans, record: ExecutionRecord) -> Iterator[None]:
    """A span over one run, with its waiting and all that it reads and writes. The record says so, for the next one."""
    execution = record.execution
    attributes = {"execution.id": execution.execution_id, "pipeline.id": execution.pipeline_id}
    links = [TracePlace.parse(each) for each in record.trace_links]
    with spans.detached("execution", attributes, parent=TracePlace.parse(record.trace_parent), links=links) as span:
        place = place_of(span)
        if place.trace_id:
            record.trace_parent = ""
            record.trace_links.append(place.traceparent)
            del record.trace_links[1 : 1 + max(0, len(record.trace_links) - _MOST_LINKS)]
        yield
