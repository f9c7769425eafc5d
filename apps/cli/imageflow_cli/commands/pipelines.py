"""`imageflow pipelines`: stored definitions."""

from __future__ import annotations

import json
from pathlib import Path

import click

from imageflow_cli.options import json_option, url_option
from imageflow_cli.output import Output


@click.group()
def pipelines() -> None:
    """Stored pipelines."""


@pipelines.command()
@click.argument("pipeline", type=click.Path(path_type=Path, dir_okay=False))
@url_option
@json_option
def create(pipeline: Path, url: str, out: Output) -> None:
    """Store the pipeline in the JSON file PIPELINE."""
    from imageflow_cli.blocking import ask
    from imageflow_cli.definitions import read_definition
    from imageflow_cli.output import message_json

    definition = read_definition(pipeline)
    stored = ask(url, lambda client: client.create_pipeline(definition))
    out.data(message_json(stored))
    out.line(f"stored {stored.pipeline_id} {stored.version}".rstrip())


@pipelines.command()
@click.argument("pipeline_id")
@click.option("--version", default="", help="Its version; without it, the newest.")
@url_option
@json_option
def get(pipeline_id: str, version: str, url: str, out: Output) -> None:
    """Show a stored pipeline, as JSON."""
    from imageflow_cli.blocking import ask
    from imageflow_cli.output import message_json

    stored = ask(url, lambda client: client.get_pipeline(pipeline_id, version=version))
    definition = message_json(stored, zeros=False)
    out.data(definition)
    out.line(json.dumps(definition, indent=2, ensure_ascii=False))


@pipelines.command()
@click.argument("pipeline_id", default="")
@url_option
@json_option
def ls(pipeline_id: str, url: str, out: Output) -> None:
    """List stored pipelines, or every version of one."""
    from imageflow_cli.blocking import ask_all
    from imageflow_cli.output import message_json

    found = ask_all(url, lambda client: client.list_pipelines(pipeline_id=pipeline_id))
    out.data([message_json(each) for each in found])
    rows = [[p.pipeline_id, p.version, p.create_time.ToJsonString(), p.pipeline_name] for p in found]
    out.table(["pipeline", "version", "stored", "name"], rows)


@pipelines.command()
@click.argument("pipeline_id")
@click.option("--version", default="", help="Only this version; without it, all.")
@url_option
@json_option
def rm(pipeline_id: str, version: str, url: str, out: Output) -> None:
    """Delete a stored pipeline."""
    from imageflow_cli.blocking import ask

    ask(url, lambda client: client.delete_pipeline(pipeline_id, version=version))
    out.data({"deleted": pipeline_id, "version": version})
    out.line(f"deleted {pipeline_id} {version}".rstrip())
