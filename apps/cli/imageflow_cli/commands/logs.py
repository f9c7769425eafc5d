"""`imageflow logs`: what the services logged of one execution."""

from __future__ import annotations

import click

from imageflow_cli.options import json_option
from imageflow_cli.output import Output


@click.command()
@click.argument("execution_id")
@click.option("--loki", envvar="IMAGEFLOW_LOKI_URL", required=True, help="Loki's URL; also IMAGEFLOW_LOKI_URL.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), default=24.0, show_default=True, help="How far back.")
@click.option("--limit", type=click.IntRange(1, 5000), default=1000, show_default=True, help="The most lines.")
@json_option
def logs(execution_id: str, loki: str, hours: float, limit: int, out: Output) -> None:
    """Show the log lines of an execution, of all services, oldest first."""
    import asyncio
    from datetime import timedelta

    from imageflow_cli.observe.logs import execution_lines
    from imageflow_common.errors import NotFound

    lines = asyncio.run(execution_lines(loki, execution_id, since=timedelta(hours=hours), limit=limit))
    if not lines:
        raise NotFound(f"Loki has no line of {execution_id[:100]}")
    out.data(
        [
            {
                "time": line.time.isoformat(),
                "service": line.service,
                "level": line.level,
                "message": line.message,
                "fields": dict(line.fields),
            }
            for line in lines
        ]
    )
    for line in lines:
        fields = " ".join(f"{name}={str(value)!r}" for name, value in line.fields.items())
        out.line(f"{line.time:%H:%M:%S.%f} {line.level:<7} {line.service:<13} {line.message} {fields}".rstrip())
