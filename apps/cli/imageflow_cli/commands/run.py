"""`imageflow run`: a pipeline over an image, or over a folder of them, in this process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imageflow_cli.options import json_option, models_option, output_options, set_option
from imageflow_cli.output import Output, milliseconds, progress

if TYPE_CHECKING:
    from imageflow_cli.folder import Done, Job

_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class How:
    """What holds for every image."""

    pipeline: Path
    models: Path | None
    settings: tuple[str, ...]
    output_format: str
    quality: int


@click.command()
@click.argument("pipeline", type=_FILE)
@click.argument("image", type=_FILE, required=False)
@click.option(
    "--batch",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Run it over every image of this folder, in place of IMAGE.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="The image to write, whose ending is the format; for a batch, the folder.",
)
@click.option("--concurrency", type=click.IntRange(1), default=None, help="A batch's images at once; else by cores.")
@click.option("--again", is_flag=True, help="Process a batch's images whose output is there, too.")
@models_option
@set_option
@output_options
@json_option
def run(
    pipeline: Path,
    image: Path | None,
    folder: Path | None,
    output: Path,
    concurrency: int | None,
    again: bool,
    models: Path | None,
    settings: tuple[str, ...],
    output_format: str,
    quality: int | None,
    out: Output,
) -> None:
    """Run PIPELINE (a JSON file) over IMAGE, or over a folder of images, in this process; no server is needed.

    An image of a batch that fails fails alone, and the exit status is 1. One whose output is there, and newer than the
    image and PIPELINE, is not processed again: a batch that was broken off goes on where it was.
    """
    from imageflow_cli.definitions import read_definition, read_settings
    from imageflow_cli.exits import UsageFault

    definition = read_definition(pipeline)
    read_settings(settings)
    how = How(pipeline, models, settings, output_format, quality or 0)
    if folder is not None and image is None:
        _over_folder(how, folder, output, out, concurrency=concurrency, again=again)
    elif image is not None and folder is None:
        _over_image(how, definition, image, output, out)
    else:
        raise UsageFault("give IMAGE or --batch")


def _over_image(how: How, definition: dict[str, object], image: Path, output: Path, out: Output) -> None:
    from imageflow_cli.definitions import format_of, read_file, step_ids, write_file
    from imageflow_cli.exits import Exit
    from imageflow_cli.models_directory import find_models
    from imageflow_cli.output import message_json
    from imageflow_cli.reports import show_execution

    wanted = how.output_format or format_of(output)
    data = read_file(image)
    with out.working(f"running {how.pipeline.name} over {image.name}"):
        from imageflow_cli.local import run_local

        result = asyncio.run(
            run_local(
                how.pipeline.read_bytes(),
                data,
                models=find_models(how.models),
                assignments=how.settings,
                output_format=wanted,
                quality=how.quality,
            )
        )
    out.data({**message_json(result.execution), "detections": result.detections})
    show_execution(out, result.execution, step_ids(definition))
    if not result.data:
        sys.exit(Exit.FAILED)
    write_file(output, result.data)
    out.line(f"wrote {output}: {result.media_type}, {len(result.data)} bytes")


def _over_folder(how: How, folder: Path, output: Path, out: Output, *, concurrency: int | None, again: bool) -> None:
    from imageflow_cli.exits import Exit, UsageFault
    from imageflow_cli.folder import Done, Fate, cores, find_jobs, is_done

    jobs = find_jobs(folder, output, output_format=how.output_format)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageFault(f"cannot make {output}: {exc.strerror}") from exc
    skipped = [job for job in jobs if not again and is_done(job, how.pipeline)]
    ended = asyncio.run(_run(how, [job for job in jobs if job not in skipped], out, concurrency or cores()))
    done = [*(Done(job, Fate.SKIPPED) for job in skipped), *ended]
    _show_batch(out, sorted(done, key=lambda each: each.job.image))
    if any(each.fate is Fate.FAILED for each in done):
        sys.exit(Exit.FAILED)


async def _run(how: How, jobs: Sequence[Job], out: Output, concurrency: int) -> list[Done]:
    from imageflow_cli.folder import run_jobs
    from imageflow_cli.local import local_pipeline
    from imageflow_cli.models_directory import find_models

    text, models = how.pipeline.read_bytes(), find_models(how.models)
    async with local_pipeline(text, models=models, assignments=how.settings, concurrency=concurrency) as pipeline:
        with progress(out, how.pipeline.name, len(jobs)) as step:
            return await run_jobs(pipeline, jobs, concurrency=concurrency, quality=how.quality, ended=lambda _: step())


def _show_batch(out: Output, done: Sequence[Done]) -> None:
    """How many came to what, and each that failed with its reason."""
    from imageflow_cli.folder import Fate

    out.data(
        {
            **{fate.value: sum(each.fate is fate for each in done) for fate in Fate},
            "images": [
                {
                    "image": str(each.job.image),
                    "output": str(each.job.output),
                    "status": each.fate.value,
                    "executionTimeMs": round(each.milliseconds, 3),
                    "error": each.error,
                }
                for each in done
            ],
        }
    )
    rows = []
    for fate in Fate:
        times = [each.milliseconds for each in done if each.fate is fate]
        mean = milliseconds(sum(times) / len(times)) if times and fate is not Fate.SKIPPED else ""
        rows.append([fate.value, str(len(times)), mean])
    out.table(["", "images", "mean time"], rows, right=["images", "mean time"])
    failed = [each for each in done if each.fate is Fate.FAILED]
    if failed:
        out.line()
        out.table(["image", "error"], [[each.job.image.name, each.error] for each in failed])
