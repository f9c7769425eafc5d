"""R60: work that nobody waits for, and what is resumed, has traces of its own, linked to what they come from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from orchestrator_executions import Site, crash, site
from orchestrator_scripted import eventually, never, step

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.telemetry import context_from_metadata
from imageflow_orchestrator.claim import new_record
from imageflow_orchestrator.engine import Requested
from imageflow_orchestrator.run import Instruments
from imageflow_orchestrator.traced import link_to_caller, traced_run

CALLER = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


class Traces:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        tracers = TracerProvider(sampler=ParentBased(ALWAYS_ON))
        tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.instruments = Instruments(tracers)

    def runs(self) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == "execution"]


def called(*, sampled: bool = True) -> None:
    """For the rest of the test, as though a caller had sent his trace."""
    header = f"00-{CALLER[0]}-{CALLER[1]}-{sampled:02x}"
    otel_context.attach(context_from_metadata([("traceparent", header)]))


def links(span: ReadableSpan) -> list[tuple[str, str]]:
    return [(f"{each.context.trace_id:032x}", f"{each.context.span_id:016x}") for each in span.links]


def place(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


async def test_an_accepted_execution_begins_a_trace_that_is_linked_to_its_callers(tmp_path: Path) -> None:
    traces = Traces()
    called()
    async with site(tmp_path, instruments=traces.instruments) as on:
        await on.accept(on.request(step("a")))
        done = await on.ended()

    (run,) = await ended(traces, 1)
    assert run.parent is None
    assert links(run) == [CALLER]
    assert place(run)[0] == done.trace_id != CALLER[0]


async def test_a_resumed_run_is_linked_to_the_caller_and_to_the_run_before(tmp_path: Path) -> None:
    first, second = Traces(), Traces()
    called()
    async with site(tmp_path, instruments=first.instruments, script={"a": [never]}) as on:
        await on.accept(on.request(step("a")))
        await eventually(lambda: bool(on.at.caller.running))
        interrupted = await on.records.hold("default", "e")
        await crash()
        on.store.dead.set()

    async with site(tmp_path, instruments=second.instruments) as on:
        await on.executions.recover()
        assert (await on.ended()).status == Execution.COMPLETED

    (run,) = await ended(second, 1)
    before = interrupted.record.trace_links[1].split("-")
    assert links(run) == [CALLER, (before[1], before[2])]


async def test_a_caller_who_wants_no_trace_gets_none_of_his_accepted_work_either(tmp_path: Path) -> None:
    traces = Traces()
    called(sampled=False)
    async with site(tmp_path, instruments=traces.instruments) as on:
        await on.accept(on.request(step("a")))
        await on.ended()
    assert traces.runs() == []


async def test_a_messages_trace_goes_on_in_the_first_run(tmp_path: Path) -> None:
    traces = Traces()
    async with site(tmp_path, instruments=traces.instruments) as on:
        await accept_message(on, f"00-{CALLER[0]}-{CALLER[1]}-01")
        done = await on.ended()
    (run,) = await ended(traces, 1)
    assert place(run)[0] == done.trace_id == CALLER[0]
    assert run.parent is not None
    assert f"{run.parent.span_id:016x}" == CALLER[1]


async def accept_message(on: Site, traceparent: str) -> None:
    plan = on.planner.given(on.request(step("a")).pipeline, {})
    record = new_record(on.request(step("a")), plan, Requested(execution_id="e"), ExecutionRecord.ASYNCHRONOUS)
    record.trace_parent = traceparent
    await on.executions.accept(record)


async def test_a_record_keeps_the_first_link_and_the_latest() -> None:
    record = ExecutionRecord()
    called()
    link_to_caller(record)
    record.trace_links.extend(f"00-{number:032x}-{number:016x}-01" for number in range(1, 40))
    with traced_run(Traces().instruments.spans, record):
        pass
    assert len(record.trace_links) == 16
    assert CALLER[0] in record.trace_links[0]
    assert record.trace_links[-2].startswith(f"00-{39:032x}")


async def ended(traces: Traces, count: int) -> Sequence[ReadableSpan]:
    """The span ends a moment after the execution."""
    await eventually(lambda: len(traces.runs()) == count)
    await asyncio.sleep(0)
    return traces.runs()
