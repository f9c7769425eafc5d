"""`imageflow trace`: where the time of one execution went."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from imageflow_cli.observe.options import trace_store_options
from imageflow_cli.options import json_option, url_option
from imageflow_cli.output import Output

if TYPE_CHECKING:
    from imageflow.v1.execution_pb2 import Execution
    from imageflow_cli.observe.traces import Trace, TraceStore


@click.command()
@click.argument("execution_id")
@trace_store_options
@url_option
@json_option
def trace(execution_id: str, store: TraceStore | None, url: str, out: Output) -> None:
    """Show an execution's trace as a waterfall.

    EXECUTION_ID may be a trace's id (32 hexadecimal digits) too. Without a trace store, or when it has not kept the
    trace, the times are those of the execution's record.
    """
    import asyncio

    from imageflow_common.errors import NotFound

    if re.fullmatch(r"[0-9a-f]{32}", execution_id):
        found, execution = asyncio.run(_by_trace_id(store, execution_id)), None
    else:
        found, execution = asyncio.run(_by_execution(store, execution_id, url))
    if found:
        show_trace(out, found)
    elif execution is not None:
        _show_record(out, execution, store)
    else:
        where = "the server and the trace store know" if store else "the server knows"
        raise NotFound(f"{where} nothing of {execution_id[:100]}")


async def _by_trace_id(store: TraceStore | None, trace_id: str) -> Trace:
    from imageflow_cli.exits import UsageFault

    if store is None:
        raise UsageFault("a trace's id needs a trace store: --zipkin or --jaeger")
    return await store.trace(trace_id)


async def _by_execution(store: TraceStore | None, execution_id: str, url: str) -> tuple[Trace, Execution | None]:
    """What `:process` ran has no record, and what a full store kept away has no trace: either will do."""
    from datetime import UTC, datetime, timedelta

    execution = await _record(execution_id, url, required=store is None)
    if store is None:
        return (), execution
    if execution is not None and execution.trace_id:
        return await store.trace(execution.trace_id), execution
    since = datetime.now(UTC) - timedelta(days=7)
    found = await store.find("execution.id", execution_id, since=since, limit=1)
    return (found[0] if found else ()), execution


async def _record(execution_id: str, url: str, *, required: bool) -> Execution | None:
    from imageflow_cli.client import Client
    from imageflow_cli.exits import ServerUnreachable
    from imageflow_common.errors import ImageFlowError

    async with Client(url) as client:
        try:
            return await client.get_execution(execution_id)
        except ServerUnreachable:
            if required:
                raise
        except ImageFlowError as exc:
            if exc.code != "NOT_FOUND":
                raise
    return None


def show_trace(out: Output, found: Trace) -> None:
    from imageflow_cli.observe.waterfall import waterfall

    executions = sorted({span.attributes["execution.id"] for span in found if "execution.id" in span.attributes})
    rows = waterfall(found)
    out.data(
        {
            "traceId": found[0].trace_id,
            "executionIds": executions,
            "spans": [
                {
                    "name": row.span.name,
                    "service": row.span.service,
                    "spanId": row.span.span_id,
                    "parentId": row.span.parent_id,
                    "startMs": row.start_ms,
                    "durationMs": row.span.duration_ms,
                    "failed": row.span.failed,
                    "attributes": dict(row.span.attributes),
                }
                for row in rows
            ],
        }
    )
    out.line(f"trace {found[0].trace_id}, execution {', '.join(executions) or 'unknown'}")
    cells = [
        [
            "  " * row.depth + _title(row.span.name, row.span.attributes.get("step.id", "")),
            row.span.service,
            f"{row.start_ms:.1f}",
            f"{row.span.duration_ms:.1f}",
            "failed" if row.span.failed else "",
            row.bar,
        ]
        for row in rows
    ]
    out.table(["span", "service", "start ms", "ms", "", "when"], cells, right=["start ms", "ms"])


def _title(name: str, step: str) -> str:
    return f"{name} {step}".strip()


def _show_record(out: Output, execution: Execution, store: TraceStore | None) -> None:
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import show_execution

    out.data(
        {"traceId": execution.trace_id, "executionIds": [execution.execution_id], "record": message_json(execution)}
    )
    why = "the trace store has not kept this trace" if store else "no trace store was named (--zipkin, --jaeger)"
    out.note(f"from the record: {why}")
    show_execution(out, execution)
