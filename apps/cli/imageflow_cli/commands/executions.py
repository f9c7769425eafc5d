"""`imageflow executions`: what runs came to."""

from __future__ import annotations

import click

from imageflow_cli.options import json_option, url_option
from imageflow_cli.output import Output, milliseconds

_STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")


@click.group()
def executions() -> None:
    """Recorded executions."""


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
@click.option("--pipeline", "pipeline_id", default="", help="Only executions of this pipeline.")
@click.option("--status", type=click.Choice(_STATES, case_sensitive=False), help="Only executions in this state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The most to list.")
@url_option
@json_option
def ls(pipeline_id: str, status: str | None, limit: int, url: str, out: Output) -> None:
    """List executions, newest first."""
    from imageflow.v1.execution_pb2 import Execution
    from imageflow_cli.blocking import ask_all
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import state_name

    state = Execution.State.Value(status.upper()) if status else Execution.STATE_UNSPECIFIED
    found = ask_all(url, lambda client: client.list_executions(pipeline_id=pipeline_id, status=state), limit=limit)
    out.data([message_json(each) for each in found])
    rows = [
        [e.execution_id, e.pipeline_id, state_name(e.status), milliseconds(e.execution_time_ms), e.error.message]
        for e in found
    ]
    out.table(["execution", "pipeline", "status", "time", "error"], rows, right=["time"])
