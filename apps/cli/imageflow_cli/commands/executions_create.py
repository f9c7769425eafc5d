"""`imageflow executions create`: has a pipeline run later, over one stored image or many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from imageflow_cli.options import json_option, output_options, set_option, url_option, watch_option
from imageflow_cli.output import Output

if TYPE_CHECKING:
    from imageflow.v1.execution_service_pb2 import BatchInputs


@click.command()
@click.argument("pipeline", default="")
@click.option("--pipeline-id", default="", help="A stored pipeline, in place of PIPELINE.")
@click.option("--version", default="", help="The version of a stored pipeline.")
@click.option("--input", "input_path", default="", metavar="KEY", help="The input image in the store.")
@click.option("--output", "output_path", default="", metavar="KEY", help="The key to write the output to.")
@click.option("--batch", "files", multiple=True, metavar="KEY", help="An image of a batch; @FILE: a key on each line.")
@click.option("--batch-prefix", default="", metavar="PREFIX", help="Every image whose key begins so.")
@click.option("--output-prefix", default="", metavar="PREFIX", help="A batch's outputs go below this.")
@click.option("--concurrency", type=click.IntRange(1), default=None, help="Images of a batch at once.")
@click.option("--execution-id", default="", help="The execution's id; the same again answers the same execution.")
@set_option
@output_options
@watch_option
@url_option
@json_option
def create(
    pipeline: str,
    pipeline_id: str,
    version: str,
    input_path: str,
    output_path: str,
    files: tuple[str, ...],
    batch_prefix: str,
    output_prefix: str,
    concurrency: int | None,
    execution_id: str,
    settings: tuple[str, ...],
    output_format: str,
    quality: int | None,
    watch: bool,
    url: str,
    out: Output,
) -> None:
    """Have PIPELINE (a JSON file, or a stored pipeline's id) run over an image, or a batch, in the server's store.

    It is accepted at once, and outlives this command and the server.
    """
    from imageflow_cli.blocking import ask
    from imageflow_cli.definitions import read_definition, read_settings, typed
    from imageflow_cli.exits import UsageFault
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import state_name
    from imageflow_cli.watching import watch_to_end

    if bool(pipeline) == bool(pipeline_id):
        raise UsageFault("give PIPELINE or --pipeline-id")
    is_file = pipeline.endswith(".json")
    definition = read_definition(Path(pipeline)) if is_file else None
    overrides = typed(read_settings(settings))
    batch = _batch(files, batch_prefix, output_prefix, concurrency)
    execution = ask(
        url,
        lambda client: client.create_execution(
            definition,
            pipeline_id="" if is_file else pipeline_id or pipeline,
            version=version,
            input_path=input_path,
            output_path=output_path,
            batch=batch,
            execution_id=execution_id,
            overrides=overrides,
            output_format=output_format,
            quality=quality or 0,
        ),
    )
    if watch:
        watch_to_end(url, execution.execution_id, out)
        return
    out.data(message_json(execution))
    out.line(f"{execution.execution_id}: {state_name(execution.status)}")


def _batch(files: tuple[str, ...], prefix: str, output_prefix: str, concurrency: int | None) -> BatchInputs | None:
    """What a batch runs over; None: this is none. Raises UsageFault."""
    from imageflow.v1.execution_service_pb2 import BatchInputs
    from imageflow_cli.definitions import read_file
    from imageflow_cli.exits import UsageFault

    if not files and not prefix:
        if output_prefix or concurrency:
            raise UsageFault("--output-prefix and --concurrency are for a batch: give --batch or --batch-prefix")
        return None
    keys: list[str] = []
    for file in files:
        text = read_file(Path(file[1:])).decode(errors="replace") if file.startswith("@") else file
        keys += [line for line in text.splitlines() if line.strip()]
    return BatchInputs(paths=keys, prefix=prefix, output_prefix=output_prefix, concurrency=concurrency or 0)
