"""`imageflow execute` and `imageflow process`: runs on a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from imageflow_cli.options import json_option, output_options, set_option, url_option
from imageflow_cli.output import Output

if TYPE_CHECKING:
    from imageflow_cli.client import Client, ProcessedImage

_FILE = click.Path(path_type=Path, dir_okay=False)


class _Wanted(TypedDict):
    media_type: str
    version: str
    output_format: str
    quality: int


@click.command()
@click.argument("pipeline")
@click.option("--input", "input_path", default="", metavar="KEY", help="The input image in the store.")
@click.option("--output", "output_path", default="", metavar="KEY", help="The key to write the output to.")
@click.option("--version", default="", help="The version of a stored pipeline.")
@click.option("--execution-id", default="", help="The execution's id; the same again answers the same execution.")
@set_option
@output_options
@url_option
@json_option
def execute(
    pipeline: str,
    input_path: str,
    output_path: str,
    version: str,
    execution_id: str,
    settings: tuple[str, ...],
    output_format: str,
    quality: int | None,
    url: str,
    out: Output,
) -> None:
    """Run PIPELINE (a JSON file, or a stored pipeline's id) over an image in the server's store."""
    from imageflow_cli.blocking import ask
    from imageflow_cli.definitions import read_definition, read_settings, step_ids, typed
    from imageflow_cli.exits import Exit
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import show_execution, state_name

    definition = read_definition(Path(pipeline)) if pipeline.endswith(".json") else None
    overrides = typed(read_settings(settings))
    with out.working(f"running {pipeline}"):
        execution = ask(
            url,
            lambda client: client.execute(
                definition,
                pipeline_id=pipeline if definition is None else "",
                version=version,
                input_path=input_path,
                output_path=output_path,
                execution_id=execution_id,
                overrides=overrides,
                output_format=output_format,
                quality=quality or 0,
            ),
        )
    out.data(message_json(execution))
    show_execution(out, execution, step_ids(definition))
    if state_name(execution.status) != "COMPLETED":
        sys.exit(Exit.FAILED)


@click.command()
@click.argument("name")
@click.argument("image", type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, help="Where to write the image; its ending is the format.")
@click.option("--component", is_flag=True, help="NAME is a component; --set is PARAMETER=VALUE.")
@click.option("--version", default="", help="The version of the pipeline or the component.")
@set_option
@output_options
@url_option
@json_option
def process(
    name: str,
    image: Path,
    output: Path,
    component: bool,
    version: str,
    settings: tuple[str, ...],
    output_format: str,
    quality: int | None,
    url: str,
    out: Output,
) -> None:
    """Run the stored pipeline NAME, or one component, over the local IMAGE on a server."""
    from imageflow_cli.blocking import ask
    from imageflow_cli.definitions import format_of, media_type_of, read_file, read_settings, write_file

    wanted: _Wanted = {
        "media_type": media_type_of(image),
        "version": version,
        "output_format": output_format or format_of(output),
        "quality": quality or 0,
    }
    values = read_settings(settings, dotted=not component)
    data = read_file(image)

    async def question(client: Client) -> ProcessedImage:
        if component:
            return await client.process_with_component(name, data, parameters=values, **wanted)
        return await client.process_image(name, data, overrides=values, **wanted)

    with out.working(f"processing {image.name}"):
        answer = ask(url, question)
    write_file(output, answer.data)
    _show_processed(out, output, answer)


def _show_processed(out: Output, output: Path, answer: ProcessedImage) -> None:
    detections = json.loads(answer.detections) if answer.detections else []
    out.data(
        {
            "output": str(output),
            "mediaType": answer.media_type,
            "sizeBytes": len(answer.data),
            "executionId": answer.execution_id,
            "serverTiming": answer.server_timing,
            "detections": detections,
        }
    )
    out.line(f"wrote {output}: {answer.media_type}, {len(answer.data)} bytes ({answer.execution_id})")
    if answer.server_timing:
        out.line(f"timing: {answer.server_timing}")
    if answer.detections:
        out.line(f"detections: {len(detections) if isinstance(detections, list) else answer.detections}")
