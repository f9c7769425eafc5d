"""`imageflow log-level`: what the services of `up` log, changed while they run."""

from __future__ import annotations

from pathlib import Path

import click

from imageflow_cli.options import json_option
from imageflow_cli.output import Output


@click.command()
@click.argument("level", type=click.Choice(["debug", "usual"]))
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default="imageflow-data", show_default=True)
@click.option("--service", "services", multiple=True, help="Of these alone, such as orchestrator; may be repeated.")
@json_option
def log_level(level: str, data: Path, services: tuple[str, ...], out: Output) -> None:
    """Have the services of `imageflow up` log everything, or again what they were started with.

    Elsewhere the same is done by the signals USR1 and USR2 to a service's process.
    """
    import os

    from imageflow_cli.datadir import read_state
    from imageflow_cli.topology import GATEWAY
    from imageflow_common.errors import NotFound
    from imageflow_common.logs import DEBUG_SIGNAL, USUAL_SIGNAL

    state = read_state(data)
    running = {p.name: p.pid for p in state.processes if p.name != GATEWAY and p.pid} if state else {}
    if not running:
        raise NotFound(f"no `imageflow up` runs on {data}")
    if unknown := sorted(set(services) - set(running)):
        raise NotFound(f"{', '.join(unknown)} does not run here; {', '.join(sorted(running))} do")
    told = sorted(services or running)
    for name in told:
        os.kill(running[name], DEBUG_SIGNAL if level == "debug" else USUAL_SIGNAL)
    out.data({"level": level, "services": told})
    out.line(f"{', '.join(told)}: {level}")
