"""`imageflow observe`: what keeps metrics, traces and logs, beside the system."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imageflow_cli.options import json_option
from imageflow_cli.output import Output

if TYPE_CHECKING:
    from imageflow_cli.observe.site import Site

_data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default="imageflow-observe",
    show_default=True,
    help="The folder that everything is kept in.",
)


@click.group()
def observe() -> None:
    """Collector, Prometheus, Zipkin and Loki, on loopback."""


@observe.command()
@_data_option
@json_option
def up(data: Path, out: Output) -> None:
    """Run what can be found of them, until Ctrl-C or `observe down`.

    Prints what to export before `imageflow up`, `trace`, `logs` and `analyze`. What cannot be found is named, with how
    it is had.
    """
    import asyncio

    from imageflow_cli.exits import Exit
    from imageflow_cli.observe.programs import find_programs
    from imageflow_cli.observe.site import AlreadyRunning, NotReady

    found = find_programs()
    for how in found.missing.values():
        out.note(f"not found: {how}")
    if not found.programs:
        out.data({"missing": dict(found.missing)})
        sys.exit(Exit.FAILED)
    try:
        asyncio.run(_until_signal(found.programs, data, out))
    except (AlreadyRunning, NotReady, OSError) as exc:
        out.data({"error": {"message": str(exc)}})
        out.note(f"error: {exc}")
        statuses = {AlreadyRunning: Exit.IN_USE, NotReady: Exit.GAVE_UP}
        sys.exit(statuses.get(type(exc), Exit.FAILED))


@observe.command()
@_data_option
@json_option
def down(data: Path, out: Output) -> None:
    """End what `observe up` runs."""
    from imageflow_cli.observe.site import stop

    asked = stop(data)
    out.data({"stopped": asked})
    out.line("asked to end" if asked else "nothing runs")


async def _until_signal(programs: Mapping[str, str], data: Path, out: Output) -> None:
    import asyncio
    import signal

    from imageflow_cli.logsink import LogSink
    from imageflow_cli.observe.site import running

    end, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end.set)
    sink = LogSink(sys.stderr, "text")
    try:
        async with running(programs, data, sink) as site:
            _show(out, site)
            sys.stdout.flush()
            await end.wait()
    finally:
        sink.close()


def _show(out: Output, site: Site) -> None:
    from shlex import quote

    out.data({"urls": dict(site.urls), "exports": dict(site.exports), "logs": str(site.logs)})
    for name, url in site.urls.items():
        out.note(f"{name} at {url}")
    for name, value in site.exports.items():
        out.line(f"export {name}={quote(value)}")
    out.line(f"# imageflow up --log-format json 2>>{quote(str(site.logs / 'imageflow.jsonl'))}")
