"""`imageflow validate`: pipelines in files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from imageflow_cli.options import json_option, models_option, set_option
from imageflow_cli.output import Output

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("pipeline", type=_FILE)
@click.option("--url", envvar="IMAGEFLOW_URL", default=None, help="Ask this server; without it, none is needed.")
@models_option
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
        from imageflow_cli.definitions import typed

        plan = ask(url, lambda client: client.validate(definition, overrides=typed(overrides)))
    out.data(message_json(plan))
    show_plan(out, plan)
