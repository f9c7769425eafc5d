"""`imageflow executions`: runs that a server has accepted, and what they came to."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from imageflow_cli.commands.executions_create import create
from imageflow_cli.options import json_option, set_option, url_option, watch_option
from imageflow_cli.output import Output, milliseconds

if TYPE_CHECKING:
    from imageflow.v1.execution_pb2 import Execution

_STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")


@click.group()
def executions() -> None:
    """Executions: accepted, watched, cancelled, run again."""


executions.add_command(create)


@executions.command()
@click.argument("execution_id")
@url_option
@json_option
def get(execution_id: str, url: str, out: Output) -> None:
    """Show one execution."""
    from imageflow_cli.blocking import ask
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import show_execution

    execution = ask(url, lambda client: client.get_execution(execution_id))
    out.data(message_json(execution))
    show_execution(out, execution)


@executions.command()
@click.argument("execution_id")
@click.option("--after-event", type=click.IntRange(0), default=0, help="The number of the last event already seen.")
@url_option
@json_option
def watch(execution_id: str, after_event: int, url: str, out: Output) -> None:
    """Show what happens until the execution has ended; with --json, an event a line.

    A broken connection is taken up again. Exit status 0: it completed; 1: it did not.
    """
    from imageflow_cli.watching import watch_to_end

    watch_to_end(url, execution_id, out, after_event=after_event)


@executions.command()
@click.argument("execution_id")
@click.option("--message", default="", help="Why, for people.")
@url_option
@json_option
def cancel(execution_id: str, message: str, url: str, out: Output) -> None:
    """End an execution."""
    from imageflow_cli.blocking import ask

    _show(out, ask(url, lambda client: client.cancel_execution(execution_id, message=message)))


@executions.command()
@click.argument("execution_id")
@click.option("--from", "from_step", default="", metavar="STEP", help="Start here; without it, where it failed.")
@set_option
@click.option("--execution-id", "new_execution_id", default="", help="The new execution's id.")
@watch_option
@url_option
@json_option
def rerun(
    execution_id: str,
    from_step: str,
    settings: tuple[str, ...],
    new_execution_id: str,
    watch: bool,
    url: str,
    out: Output,
) -> None:
    """Run an ended execution again, without the steps that need not run again."""
    from imageflow_cli.blocking import ask
    from imageflow_cli.definitions import read_settings, typed
    from imageflow_cli.watching import watch_to_end

    overrides = typed(read_settings(settings))
    execution = ask(
        url,
        lambda client: client.rerun_execution(
            execution_id, from_step=from_step, overrides=overrides, new_execution_id=new_execution_id
        ),
    )
    if watch:
        watch_to_end(url, execution.execution_id, out)
    else:
        _show(out, execution)


@executions.command()
@click.argument("execution_ids", nargs=-1, required=True)
@url_option
@json_option
def rm(execution_ids: tuple[str, ...], url: str, out: Output) -> None:
    """Delete ended executions: their records and artifacts."""
    from imageflow_cli.blocking import ask
    from imageflow_cli.client import Client

    async def question(client: Client) -> None:
        for execution_id in execution_ids:
            await client.delete_execution(execution_id)
            out.line(f"deleted {execution_id}")

    ask(url, question)
    out.data({"deleted": list(execution_ids)})


@executions.command()
@click.option("--pipeline", "pipeline_id", default="", help="Only executions of this pipeline.")
@click.option("--status", type=click.Choice(_STATES, case_sensitive=False), help="Only executions in this state.")
@click.option("--after", metavar="TIME", default=None, help="Only those accepted at or after this time (ISO 8601).")
@click.option("--before", metavar="TIME", default=None, help="Only those accepted before this time.")
@click.option("--parent", default="", metavar="ID", help="Only the images of this batch.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The most to list.")
@url_option
@json_option
def ls(
    pipeline_id: str,
    status: str | None,
    after: str | None,
    before: str | None,
    parent: str,
    limit: int,
    url: str,
    out: Output,
) -> None:
    """List executions, newest first."""
    from imageflow.v1.execution_pb2 import Execution
    from imageflow_cli.blocking import ask_all
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import state_name

    state = Execution.State.Value(status.upper()) if status else Execution.STATE_UNSPECIFIED
    earliest, latest = _time("--after", after), _time("--before", before)

    found = ask_all(
        url,
        lambda client: client.list_executions(
            pipeline_id=pipeline_id,
            status=state,
            created_after=earliest,
            created_before=latest,
            parent_execution_id=parent,
        ),
        limit=limit,
    )
    out.data([message_json(each) for each in found])
    rows = [
        [
            e.execution_id,
            e.pipeline_id,
            state_name(e.status),
            e.create_time.ToJsonString(),
            milliseconds(e.execution_time_ms),
            e.error.message,
        ]
        for e in found
    ]
    out.table(["execution", "pipeline", "status", "accepted", "time", "error"], rows, right=["time"])


def _show(out: Output, execution: Execution) -> None:
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import state_name

    out.data(message_json(execution))
    out.line(f"{execution.execution_id}: {state_name(execution.status)}")


def _time(option: str, text: str | None) -> datetime | None:
    """Local time unless the text says otherwise. Raises UsageFault."""
    from imageflow_cli.exits import UsageFault

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as exc:
        raise UsageFault(f"{option}: {text} is not a time such as 2026-01-31T12:00:00Z") from exc
