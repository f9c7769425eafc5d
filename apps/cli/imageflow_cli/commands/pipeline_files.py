"""`imageflow validate` and `imageflow run`: pipelines in files."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from imageflow_cli.options import json_option, output_options, set_option
from imageflow_cli.output import Output

_FILE = click.Path(path_type=Path, dir_okay=False)
_models_option = click.option(
    "--models", type=click.Path(path_type=Path, file_okay=False), help="The model repository for detect."
)


@click.command()
@click.argument("pipeline", type=_FILE)
@click.option("--url", envvar="IMAGEFLOW_URL", default=None, help="Ask this server; without it, none is needed.")
@_models_option
@set_option
@json_option
def validate(pipeline: Path, url: str | None, models: Path | None, settings: tuple[str, ...], out: Output) -> None:
    """Check PIPELINE (a JSON file) and show its plan, or every fault at once."""
    from imageflow_cli.definitions import read_definition, read_settings
    from imageflow_cli.models_directory import find_models
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import show_plan

    definition, overrides = read_definition(pipeline), read_settings(settings)
    if url is None:
        from imageflow_cli.local import validate_local

        text, folder = pipeline.read_bytes(), find_models(models)
        plan = asyncio.run(validate_local(text, models=folder, assignments=settings))
    else:
        from imageflow_cli.blocking import ask
        from imageflow_cli.commands.execute import typed

        plan = ask(url, lambda client: client.validate(definition, overrides=typed(overrides)))
    out.data(message_json(plan))
    show_plan(out, plan)


@click.command()
@click.argument("pipeline", type=_FILE)
@click.argument("image", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Where to write the image; its ending is the format.")
@_models_option
@set_option
@output_options
@json_option
def run(
    pipeline: Path,
    image: Path,
    output: Path,
    models: Path | None,
    settings: tuple[str, ...],
    output_format: str,
    quality: int | None,
    out: Output,
) -> None:
    """Run PIPELINE (a JSON file) over IMAGE in this process; no server is needed."""
    from imageflow_cli.definitions import format_of, read_definition, read_file, read_settings, step_ids, write_file
    from imageflow_cli.exits import Exit
    from imageflow_cli.models_directory import find_models
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import show_execution

    wanted = output_format or format_of(output)
    definition, data = read_definition(pipeline), read_file(image)
    read_settings(settings)
    with out.working(f"running {pipeline.name} over {image.name}"):
        from imageflow_cli.local import run_local

        result = asyncio.run(
            run_local(
                pipeline.read_bytes(),
                data,
                models=find_models(models),
                assignments=settings,
                output_format=wanted,
                quality=quality or 0,
            )
        )
    out.data({**message_json(result.execution), "detections": result.detections})
    show_execution(out, result.execution, step_ids(definition))
    if not result.data:
        sys.exit(Exit.FAILED)
    write_file(output, result.data)
    out.line(f"wrote {output}: {result.media_type}, {len(result.data)} bytes")
