"""`imageflow demo`: the whole system, shown on a photograph."""

from __future__ import annotations

from pathlib import Path

import click

from imageflow_cli.options import json_option
from imageflow_cli.output import Output, message_json, milliseconds


@click.command()
@click.option("--image", type=click.Path(path_type=Path, dir_okay=False), help="A photograph of coins of your own.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo-output",
    show_default=True,
    help="Where to put the pictures and the log.",
)
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), help="The model repository.")
@json_option
def demo(image: Path | None, output: Path, models: Path | None, out: Output) -> None:
    """Start everything, find the coins in a photograph, draw them, and end everything."""
    from imageflow_cli.commands.up import start_faults
    from imageflow_cli.definitions import step_ids
    from imageflow_cli.demo import MODEL, demo_pipeline, demonstrate
    from imageflow_cli.models_directory import find_models
    from imageflow_cli.reports import show_timings

    with start_faults(out), out.working("starting the gateway, the orchestrator and three components"):
        seen = demonstrate(image=image, output=output, models=find_models(models, holding=MODEL))
    out.data(
        {
            "before": str(seen.before),
            "after": str(seen.after),
            "detections": seen.detections,
            "readySeconds": round(seen.ready_seconds, 3),
            "firstRunMs": round(seen.first_ms, 3),
            "secondRunMs": round(seen.second_ms, 3),
            "execution": message_json(seen.execution),
        }
    )
    first, second = milliseconds(seen.first_ms), milliseconds(seen.second_ms)
    out.line(f"ready after {seen.ready_seconds:.1f} s; the first run took {first}, the second {second}, over HTTP")
    out.line(f"found {seen.detections} coins; of the second run, in milliseconds:")
    show_timings(out, seen.execution, step_ids(demo_pipeline()))
    out.line(f"before: {seen.before}")
    out.line(f"after:  {seen.after}")
