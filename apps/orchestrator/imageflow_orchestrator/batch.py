"""A batch: one pipeline over many images, as a parent whose children are executions of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord, RecordedRequest
from imageflow_common.errors import ImageFlowError, InvalidArgument, Violation
from imageflow_common.keys import list_user_objects, metadata_key, parse_user_key
from imageflow_common.store import ObjectStore

MAX_IMAGES = 10_000
_DEFAULT_CONCURRENCY = 10
_MAX_CONCURRENCY = 100
_EXTENSIONS = {
    "image/jpeg": ".jpg",
    "jpeg": ".jpg",
    "jpg": ".jpg",
    "image/png": ".png",
    "png": ".png",
    "image/webp": ".webp",
    "webp": ".webp",
}


async def resolve_batch(request: RecordedRequest, store: ObjectStore) -> None:
    """Puts the images that the prefix means into `paths`, so that the batch is the same whenever it is resumed.

    Raises InvalidArgument for no images or more than 10,000, or two whose outputs would have one key, InvalidKey for a
    key that is none.
    """
    batch = request.batch
    paths = [parse_user_key(path) for path in batch.paths]
    token: str | None = None
    while batch.prefix:
        page = await list_user_objects(store, batch.prefix, page_token=token)
        paths += [item.key for item in page.items if not item.key.endswith(".json")]
        token = page.next_page_token
        if token is None or len(paths) > MAX_IMAGES:
            break
    if not 1 <= len(paths) <= MAX_IMAGES:
        raise InvalidArgument(
            f"a batch has 1 to {MAX_IMAGES} images, this one {len(paths)}",
            violations=[Violation("batch", f"1 to {MAX_IMAGES} images")],
        )
    del batch.paths[:]
    batch.paths.extend(dict.fromkeys(paths))
    if batch.output_prefix:
        _check_outputs(request)


def _check_outputs(request: RecordedRequest) -> None:
    taken: dict[str, str] = {}
    for path in request.batch.paths:
        key = parse_user_key(_output_path(request, path))
        metadata_key(key)
        if key in taken:
            raise InvalidArgument(
                f"the outputs of {taken[key]!r} and {path!r} would both be {key!r}",
                violations=[Violation("batch.outputPrefix", "two images would have one output")],
            )
        taken[key] = path


@dataclass(frozen=True, slots=True)
class Child:
    """One image of a batch."""

    number: int
    path: str


def children(record: ExecutionRecord) -> list[Child]:
    return [Child(number, path) for number, path in enumerate(record.request.batch.paths)]


def concurrency(record: ExecutionRecord) -> int:
    """How many of a batch's executions there are at a time; how many of these run, their slots decide."""
    return min(record.request.batch.concurrency or _DEFAULT_CONCURRENCY, _MAX_CONCURRENCY)


def child_request(record: ExecutionRecord, child: Child) -> RecordedRequest:
    """What one image's execution is asked for: the same in every process that asks."""
    asked = record.request
    request = RecordedRequest(
        pipeline=asked.pipeline,
        input_path=child.path,
        output_path=_output_path(asked, child.path),
        output_format=asked.output_format,
        quality=asked.quality,
    )
    for name, value in asked.overrides.items():
        request.overrides[name].CopyFrom(value)
    return request


def child_id(record: ExecutionRecord, child: Child) -> str:
    """The parent's id and the image's number; a long parent's id is cut to make room."""
    return f"{record.execution.execution_id[:120]}.{child.number:05d}"


def count(execution: Execution, status: Execution.State) -> None:
    """Counts one child that has ended, or will as cancelled."""
    match status:
        case Execution.COMPLETED:
            execution.batch.completed += 1
        case Execution.FAILED:
            execution.batch.failed += 1
        case _:
            execution.batch.cancelled += 1


def done(execution: Execution) -> int:
    return execution.batch.completed + execution.batch.failed + execution.batch.cancelled


def _output_path(request: RecordedRequest, path: str) -> str:
    """Below the output prefix, the input's name without the input prefix, with the output format's extension."""
    prefix = request.batch.output_prefix
    if not prefix:
        return ""
    folder = request.batch.prefix.rpartition("/")[0]
    name = path.removeprefix(f"{folder}/") if folder else path
    extension = _EXTENSIONS.get(request.output_format.lower())
    if extension is not None:
        name = str(PurePosixPath(name).with_suffix(extension))
    return f"{prefix.rstrip('/')}/{name}"


def failure_of(execution: Execution) -> ImageFlowError | None:
    """What a finished batch has to say for itself; None: every image completed."""
    bad = execution.batch.failed + execution.batch.cancelled
    if not bad:
        return None
    return ImageFlowError(f"{bad} of {execution.batch.total} images did not complete", reason="BATCH_INCOMPLETE")
