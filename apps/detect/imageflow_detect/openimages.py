"""The model `openimages-ssd`: SSD with MobileNetV2, trained on Open Images v4 by Google: 23 kinds of things.

It is not in this tree. It is in an npm package under Apache-2.0, as a part of one file: labels, then a TensorFlow Lite
graph. Here it is fetched by npm, which checks what it gets, converted to ONNX, and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from imageflow_common.errors import FailedPrecondition, Unavailable
from imageflow_detect.manifest import InputSpec, Manifest, Normalisation, Size, SsdOutput
from imageflow_detect.tflite_to_onnx import Converted, as_model

NAME: Final = "openimages-ssd"
PACKAGE: Final = "@mediapipe/objectron@0.4.1675468480"
LICENCE: Final = "Apache-2.0"

_MEMBER: Final = "package/objectron_solution_packed_assets.data"
_MEMBER_SHA256: Final = "470986ca5df183f41698da6de74b027d838fe289d77b5ab094497d350bee664e"
_LABELS_END: Final = 184
_FETCH_SECONDS: Final = 300
_SIDE: Final = 300


class NpmMissing(FailedPrecondition):
    """npm is not here, and is needed to fetch the model."""

    reason = "NPM_MISSING"


class ModelChanged(FailedPrecondition):
    """What npm fetched is not the file that is known."""

    reason = "MODEL_CHANGED"


def cache_directory() -> Path:
    """Where what was fetched is kept: `imageflow` in XDG_CACHE_HOME, which is ~/.cache by default."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "imageflow"


def fetch(cache: Path) -> tuple[Path, Manifest]:
    """The ONNX file and its manifest; from the cache, or else by npm. Raises NpmMissing, Unavailable when npm fails,
    ModelChanged."""
    file = cache / f"{NAME}-{_MEMBER_SHA256[:12]}.onnx"
    listed = file.with_suffix(".labels.json")
    if not (file.is_file() and listed.is_file()):
        labels, graph = _split(_download())
        cache.mkdir(parents=True, exist_ok=True)
        _write(listed, json.dumps(labels).encode())
        _write(file, convert(graph).SerializeToString())
    return file, manifest_of(json.loads(listed.read_text()))


def manifest_of(labels: list[str]) -> Manifest:
    """The graph says nothing of how it is read; MediaPipe's configuration of it does."""
    return Manifest(
        name=NAME,
        labels=tuple(labels),
        input=InputSpec(
            size=Size(width=_SIDE, height=_SIDE),
            fit="stretch",
            normalisation=Normalisation(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),
        ),
        output=SsdOutput(layout="ssd"),
        licence=LICENCE,
        source=f"npm package {PACKAGE}, converted from TensorFlow Lite",
        trained_by="Google, on Open Images v4",
    )


def convert(graph: bytes) -> onnx.ModelProto:
    """The TensorFlow Lite graph as ONNX, with its anchors as an output of their own."""
    converted = Converted(graph, input_name="images")
    shapes = converted.outputs()
    boxes = next(name for name, shape in shapes.items() if shape[-1] == 4)
    scores = next(name for name in shapes if name != boxes)
    grid = anchors(_SIDE)
    batch = converted.add("Slice", converted.add("Shape", "images"), *_bounds(converted, 0, 1))
    shape = converted.add("Concat", batch, converted.weight(np.array(grid.shape, np.int64)), axis=0)
    repeated = converted.add("Expand", converted.weight(grid), shape)
    outputs = {
        "boxes": (boxes, shapes[boxes]),
        "scores": (scores, shapes[scores]),
        "anchors": (repeated, (1, *grid.shape)),
    }
    return as_model(converted, name=NAME, input_name="images", outputs=outputs)


def anchors(side: int) -> npt.NDArray[np.float32]:
    """(N, 4) centre y, centre x, height, width, parts of the input: those of SSD (Liu et al., 2016, section 2.2) with
    six grids, scales 0.2 to 0.95, ratios 1, 2, 1/2, 3, 1/3 and one square between two scales; three on the finest."""
    strides = (16, 32, 64, 128, 256, 512)
    scales = [0.2 + 0.75 * number / (len(strides) - 1) for number in range(len(strides))] + [1.0]
    rows: list[tuple[float, float, float, float]] = []
    for level, stride in enumerate(strides):
        cells = math.ceil(side / stride)
        shapes = _finest(scales[0]) if level == 0 else _shapes(scales[level], scales[level + 1])
        centres = [(number + 0.5) / cells for number in range(cells)]
        rows += [(y, x, height, width) for y in centres for x in centres for height, width in shapes]
    return np.array(rows, np.float32)


def _finest(scale: float) -> list[tuple[float, float]]:
    root = math.sqrt(2)
    return [(0.1, 0.1), (scale / root, scale * root), (scale * root, scale / root)]


def _shapes(scale: float, following: float) -> list[tuple[float, float]]:
    between = math.sqrt(scale * following)
    ratios = (1.0, 2.0, 0.5, 3.0, 1 / 3)
    return [*((scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for ratio in ratios), (between, between)]


def _bounds(converted: Converted, start: int, end: int) -> tuple[str, str]:
    return converted.weight(np.array([start], np.int64)), converted.weight(np.array([end], np.int64))


def _split(data: bytes) -> tuple[list[str], bytes]:
    """The labels without the background's, and the graph."""
    return data[:_LABELS_END].decode("ascii").splitlines()[1:], data[_LABELS_END:]


def _download() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise NpmMissing(f"{NAME} comes in an npm package, and npm is not here: install it")
    with tempfile.TemporaryDirectory(prefix="imageflow-") as folder:
        command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", folder]
        try:
            subprocess.run(  # noqa: S603  # npm, and constants
                command, check=True, capture_output=True, timeout=_FETCH_SECONDS, cwd=folder
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
            raise Unavailable(f"npm could not fetch {PACKAGE}") from exc
        (archive,) = Path(folder).glob("*.tgz")
        return _member(archive)


def _member(archive: Path) -> bytes:
    with tarfile.open(archive) as tar:
        member = tar.extractfile(_MEMBER) if _MEMBER in tar.getnames() else None
        data = member.read() if member else b""
    if hashlib.sha256(data).hexdigest() != _MEMBER_SHA256:
        raise ModelChanged(f"{PACKAGE} has other contents than are known: nothing of it is used")
    return data


def _write(file: Path, data: bytes) -> None:
    """All of it, or nothing."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(file)
