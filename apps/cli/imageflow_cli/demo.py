"""`imageflow demo`: finds coins in a photograph, over HTTP, and says where the time went."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import ParseDict

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import ImageFlowError, NotFound, Unavailable

from .definitions import media_type_of, read_file, write_file
from .exits import UsageFault
from .logsink import LogSink
from .owned import owned_folder
from .topology import UpOptions
from .up import run_topology
from .web import HttpAnswer, http_get, http_post

if TYPE_CHECKING:
    from .datadir import UpState

PIPELINE_ID: Final = "inspect-coins"
MODEL: Final = "coins"

_FOLDER_PREFIX: Final = "imageflow-demo-"
_RUN_SECONDS = 60.0
_RECORD_SECONDS = 5.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What the demo saw. `execution` is that of the second, warm run; times are in milliseconds, and those of the
    client include HTTP."""

    before: Path
    after: Path
    detections: int
    first_ms: float
    second_ms: float
    ready_seconds: float
    execution: Execution


def photograph() -> bytes:
    """Greek coins from Pompeii, a PNG that comes with scikit-image. Raises NotFound without it."""
    return scikit_image_photograph("coins", otherwise="--image")


def scikit_image_photograph(name: str, *, otherwise: str) -> bytes:
    """A PNG that comes with scikit-image. Raises NotFound without it, naming the option to give another by."""
    spec = find_spec("skimage")
    file = Path(spec.origin).parent / "data" / f"{name}.png" if spec and spec.origin else None
    if file is None or not file.is_file():
        raise NotFound(f"the photograph comes with scikit-image, which is not here; give one by {otherwise}")
    return file.read_bytes()


def demo_pipeline() -> dict[str, Any]:
    """The definition that the demo runs: examples/inspect-coins.json."""
    definition: dict[str, Any] = json.loads(files("imageflow_cli").joinpath("demo.json").read_text(encoding="utf-8"))
    return definition


def demonstrate(*, image: Path | None, output: Path, models: Path) -> Demonstration:
    """Starts everything on free ports with a store of its own, runs the pipeline twice, ends everything, and leaves
    pictures and the log in `output`. Raises as `run_topology` does, and what a request was answered with."""
    if not (models / MODEL).is_dir():
        raise UsageFault(f"the demo needs the model {MODEL!r}, which is not in {models}; say where by --models")
    data = read_file(image) if image else photograph()
    media_type = media_type_of(image) if image else "image/png"
    try:
        output.mkdir(parents=True, exist_ok=True)
        log = (output / "imageflow.log").open("w", encoding="utf-8")
    except OSError as exc:
        raise UsageFault(f"cannot write to {output}: {exc.strerror}") from exc
    before = output / f"before{image.suffix if image else '.png'}"
    write_file(before, data)
    seen: list[Demonstration] = []

    async def show(state: UpState, seconds: float) -> None:
        seen.append(await _show(state.url, seconds, data, media_type, before, output / "after.png"))

    options = UpOptions(port=0, models=models, environment={"IMAGEFLOW_PROCESS_RECORDS": "all"})
    with log, owned_folder(_FOLDER_PREFIX) as folder:
        sink = LogSink(log, "text")
        try:
            asyncio.run(run_topology(options, data=folder / "data", registry=None, sink=sink, on_ready=show))
        finally:
            sink.close()
    if not seen:
        raise ImageFlowError("the demo was interrupted")
    return seen[0]


async def _show(url: str, seconds: float, data: bytes, media_type: str, before: Path, after: Path) -> Demonstration:
    definition = json.dumps(demo_pipeline()).encode()
    await _post(f"{url}/v1/pipelines", definition, "application/json")
    process = f"{url}/v1/pipelines/{PIPELINE_ID}:process?set=detect.annotate=true&outputFormat=png"
    times = []
    for _ in range(2):
        start = perf_counter()
        answer = await _post(process, data, media_type)
        times.append((perf_counter() - start) * 1e3)
    write_file(after, answer.body)
    execution = await _recorded(url, answer.headers.get("imageflow-execution-id", ""))
    found = len(json.loads(answer.headers.get("imageflow-detections", "[]")))
    return Demonstration(before, after, found, times[0], times[1], seconds, execution)


async def _post(url: str, body: bytes, content_type: str) -> HttpAnswer:
    answer = await http_post(url, body, content_type=content_type, timeout_seconds=_RUN_SECONDS)
    if answer.status != 200:
        raise ImageFlowError(f"HTTP {answer.status or 'without an answer'}: {answer.body.decode(errors='replace')}")
    return answer


async def _recorded(url: str, execution_id: str) -> Execution:
    """The execution's record, which may be written after the image was answered."""
    try:
        async with asyncio.timeout(_RECORD_SECONDS):
            while (answer := await http_get(f"{url}/v1/executions/{execution_id}")).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as exc:
        raise Unavailable(f"execution {execution_id} left no record") from exc
    return ParseDict(json.loads(answer.body), Execution(), ignore_unknown_fields=True)
