"""One pipeline over every image of a folder, with no server: each image succeeds or fails alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import ImageFlowError

from .definitions import media_type_of, read_file, write_file
from .exits import UsageFault
from .local import LocalPipeline

_ENDINGS = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}
_ANY = "application/octet-stream"


class Fate(Enum):
    """What became of an image."""

    WRITTEN = "written"
    SKIPPED = "skipped"
    """Its output was there."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """An image, where its output goes, and in what format."""

    image: Path
    output: Path
    output_format: str


@dataclass(frozen=True, slots=True)
class Done:
    """A job that has ended. `milliseconds` are those of its execution; `error` is for people."""

    job: Job
    fate: Fate
    milliseconds: float = 0.0
    error: str = ""


def find_jobs(folder: Path, output: Path, *, output_format: str = "") -> list[Job]:
    """A job for each image of a folder, known by its ending, in the order of their names; folders within are passed
    over. An output is named as its image, with the ending of its format.

    Raises UsageFault when there are no images, when the outputs would lie among them, and when two have one name.
    """
    if folder.resolve() == output.resolve():
        raise UsageFault("the outputs would lie among the images; name another folder")
    try:
        images = sorted(path for path in folder.iterdir() if path.is_file() and media_type_of(path) != _ANY)
    except OSError as exc:
        raise UsageFault(f"cannot read {folder}: {exc.strerror}") from exc
    if not images:
        raise UsageFault(f"there are no images in {folder}")
    jobs = [_job(image, output, output_format) for image in images]
    names: dict[Path, Path] = {}
    for job in jobs:
        if (other := names.setdefault(job.output, job.image)) != job.image:
            raise UsageFault(f"{other.name} and {job.image.name} would both become {job.output.name}")
    return jobs


def is_done(job: Job, pipeline: Path) -> bool:
    """Whether its output is there, and newer than the image and the pipeline's file. Outputs are written whole or not
    at all, so one that is there is finished."""
    try:
        written = job.output.stat().st_mtime_ns
        return written >= max(job.image.stat().st_mtime_ns, pipeline.stat().st_mtime_ns)
    except OSError:
        return False


async def run_jobs(
    pipeline: LocalPipeline, jobs: Sequence[Job], *, concurrency: int, quality: int, ended: Callable[[Done], None]
) -> list[Done]:
    """Runs the jobs, some at once; tells each end as it comes, and answers them in the order of the jobs."""
    slots = asyncio.Semaphore(concurrency)

    async def work(job: Job) -> Done:
        async with slots:
            done = await _run(pipeline, job, quality)
        ended(done)
        return done

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(job)) for job in jobs]
    return [task.result() for task in tasks]


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def _run(pipeline: LocalPipeline, job: Job, quality: int) -> Done:
    try:
        data = await asyncio.to_thread(read_file, job.image)
        result = await pipeline.run(data, output_format=job.output_format, quality=quality)
        execution = result.execution
        if execution.status != Execution.COMPLETED:
            return Done(job, Fate.FAILED, execution.execution_time_ms, execution.error.message)
        await asyncio.to_thread(write_file, job.output, result.data)
    except ImageFlowError as exc:
        return Done(job, Fate.FAILED, error=exc.message)
    return Done(job, Fate.WRITTEN, execution.execution_time_ms)


def _job(image: Path, output: Path, output_format: str) -> Job:
    """The format asked for, else the input's own where it can be written, else PNG."""
    own = media_type_of(image)
    asked = media_type_of(Path(f"x.{output_format}")) if output_format and "/" not in output_format else output_format
    wanted = asked or (own if own in _ENDINGS else "image/png")
    ending = _ENDINGS.get(wanted, "")
    if not ending:
        raise UsageFault(f"the output format must be jpeg, png or webp, not {output_format}")
    suffix = image.suffix if own == wanted else ending
    return Job(image, output / f"{image.stem}{suffix}", wanted)
