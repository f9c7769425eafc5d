"""Puts an ONNX file into the model repository, after proof that it runs and is what Detect can read."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from imageflow_common.errors import AlreadyExists, InvalidArgument, Violation
from imageflow_detect.backend import OnnxSession, check_model
from imageflow_detect.manifest import NAME_PATTERN, InputSpec, Manifest, ModelInvalid, Size, YoloOutput
from imageflow_detect.models import MANIFEST_FILE, MODEL_FILE, Model, ModelRepository
from imageflow_detect.tensors import TensorInfo, shown

ACCEPTED: Final = (
    "accepted is a YOLOv8 or YOLO11 detection export: one float32 input [N, 3, height, width], one float32 "
    "output [N, 4 + classes, anchors], and no NMS in it (Ultralytics: export(format='onnx', nms=False))"
)
_DEFAULT_SIDE: Final = 640
_TRITON_MAX_BATCH: Final = 8


def add_model(
    repository: ModelRepository,
    onnx_file: Path,
    *,
    name: str,
    labels: Sequence[str],
    version: int = 1,
    licence: str,
    source: str,
) -> Model:
    """Copies the file into the repository, with a manifest and Triton's configuration; all appear at once.

    The input's size comes from the model; 640×640 where the model leaves it open. The colours are taken as
    Ultralytics trains: RGB, 0…1, letterboxed with grey 114. A further version of a model must have its labels
    and its shapes; it becomes the newest by a larger number.

    Raises ModelInvalid for a file that is no such model (the text says what was seen and what is accepted) or
    does not run on a blank image, InvalidArgument for a bad name, label or version, AlreadyExists for a
    version that is there.
    """
    _check_request(name, version)
    if version in repository.versions(name):
        raise AlreadyExists(
            f"model '{name}' has a version {version} already; its file never changes: add a new version"
        )
    session = _opened(onnx_file)
    manifest = _manifest(session, name=name, labels=labels, licence=licence, source=source)
    check_model(session, manifest)
    if repository.versions(name):
        _check_same(manifest, repository.resolve(name).manifest)
    _publish(repository.directory, onnx_file, manifest, version, _config(session, manifest))
    return repository.resolve(name, str(version))


def _check_request(name: str, version: int) -> None:
    faults = []
    if not re.fullmatch(NAME_PATTERN, name):
        faults.append(Violation("name", "1 to 128 of A-Z a-z 0-9 . _ -, not starting with a dot"))
    if not 1 <= version < 10**18:
        faults.append(Violation("version", "a whole number from 1"))
    if faults:
        text = "; ".join(f"{fault.field}: {fault.description}" for fault in faults)
        raise InvalidArgument(f"the model cannot be added: {text}", violations=faults)


def _opened(onnx_file: Path) -> OnnxSession:
    if not onnx_file.is_file():
        raise InvalidArgument(f"there is no file {onnx_file.name}", violations=[Violation("file", "not a file")])
    try:
        return OnnxSession(onnx_file)
    except ModelInvalid as exc:
        raise ModelInvalid(f"{onnx_file.name} is not an ONNX model that ONNX Runtime can load; {ACCEPTED}") from exc


def _manifest(session: OnnxSession, *, name: str, labels: Sequence[str], licence: str, source: str) -> Manifest:
    image, answer = _the_input(session), _the_output(session)
    _check_classes(answer, len(labels))
    height, width = (size or _DEFAULT_SIDE for size in image.shape[2:])
    try:
        return Manifest(
            name=name,
            labels=tuple(labels),
            input=InputSpec(name=image.name, size=Size(width=width, height=height)),
            output=YoloOutput(name=answer.name),
            licence=licence,
            source=source,
        )
    except ValidationError as exc:
        faults = [Violation(".".join(map(str, error["loc"])), error["msg"]) for error in exc.errors()]
        text = "; ".join(f"{fault.field}: {fault.description}" for fault in faults)
        raise InvalidArgument(f"the model cannot be added: {text}", violations=faults) from exc


def _the_input(session: OnnxSession) -> TensorInfo:
    if len(session.inputs) != 1:
        raise _refused(session, f"it has {len(session.inputs)} inputs")
    image = session.inputs[0]
    if image.type != "tensor(float)":
        raise _refused(session, "its input is not float32 (export without half or int8)")
    if len(image.shape) != 4 or image.shape[1] not in (3, None) or image.shape[0] not in (1, None):
        nhwc = len(image.shape) == 4 and image.shape[3] == 3
        raise _refused(session, "its input is channels last" if nhwc else "its input is not one RGB image")
    return image


def _the_output(session: OnnxSession) -> TensorInfo:
    shapes = [each.shape for each in session.outputs]
    if len(shapes) == 2 and len(shapes[0]) == 3 and len(shapes[1]) == 4:
        raise _refused(session, "it looks like a segmentation export (boxes and mask prototypes)")
    if len(shapes) != 1:
        raise _refused(session, f"it has {len(shapes)} outputs")
    answer = session.outputs[0]
    if answer.type != "tensor(float)":
        raise _refused(session, "its output is not float32")
    if len(answer.shape) == 2:
        raise _refused(session, "it looks like a classifier, or a model with NMS inside")
    if len(answer.shape) != 3:
        raise _refused(session, "its output has not three dimensions")
    if answer.shape[2] == 6 and (answer.shape[1] is None or answer.shape[1] > 6):
        raise _refused(session, "it looks like an end-to-end export, with NMS inside (rows of box, score, class)")
    return answer


def _check_classes(answer: TensorInfo, labels: int) -> None:
    """Tells a wrong number of labels from another kind of export, by which side is the long one."""
    rows, anchors = answer.shape[1:]
    if rows is None or rows == 4 + labels:
        return
    seen = f"the output '{answer.name}' is {shown(answer.shape)}"
    if anchors is not None and rows > anchors:
        kind = "a YOLOv5 export (an objectness score per anchor)" if anchors == 5 + labels else "transposed"
        raise ModelInvalid(f"{seen}, which looks {'like ' if 'YOLOv5' in kind else ''}{kind}; {ACCEPTED}")
    raise ModelInvalid(
        f"{seen}, that is {rows - 4} classes, but {labels} labels were given; a pose, oriented-box or "
        f"segmentation export has further rows; {ACCEPTED}",
        violations=[Violation("labels", f"{rows - 4} expected, {labels} given")],
    )


def _refused(session: OnnxSession, what: str) -> ModelInvalid:
    seen = [f"{kind} '{each.name}' {each.type} {shown(each.shape)}" for kind, each in _tensors(session)]
    return ModelInvalid(f"this model cannot be used: {what}; seen: {', '.join(seen)}; {ACCEPTED}")


def _tensors(session: OnnxSession) -> list[tuple[str, TensorInfo]]:
    return [("input", each) for each in session.inputs] + [("output", each) for each in session.outputs]


def _check_same(new: Manifest, old: Manifest) -> None:
    """Versions share one manifest: what is read into and out of them must be the same."""
    fields = ("labels", "input", "output")
    faults = [
        Violation(field, "differs from the model's other versions")
        for field in fields
        if getattr(new, field) != getattr(old, field)
    ]
    if faults:
        what = ", ".join(fault.field for fault in faults)
        raise InvalidArgument(
            f"model '{new.name}' has other {what}; the versions of a model share them: choose another name",
            violations=faults,
        )


def _publish(directory: Path, onnx_file: Path, manifest: Manifest, version: int, config: str) -> None:
    """Builds everything under a hidden name beside its place, then renames it there."""
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=directory))
    try:
        built = staging / manifest.name
        (built / str(version)).mkdir(parents=True)
        shutil.copyfile(onnx_file, built / str(version) / MODEL_FILE)
        (built / MANIFEST_FILE).write_text(manifest.to_yaml(), encoding="utf-8")
        (built / "config.pbtxt").write_text(config, encoding="utf-8")
        _rename(built, directory / manifest.name, version)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _rename(built: Path, place: Path, version: int) -> None:
    try:
        if (place / MANIFEST_FILE).exists():
            os.rename(built / str(version), place / str(version))
        else:
            os.rename(built, place)
    except OSError as exc:
        raise AlreadyExists(f"something is there already for model '{place.name}' version {version}") from exc


def _config(session: OnnxSession, manifest: Manifest) -> str:
    """Triton's model configuration
    (https://docs.nvidia.com/deeplearning/triton-inference-server, "Model Configuration")."""
    batches = all(info.shape[0] is None for _, info in _tensors(session))
    image = list(manifest.input_shape)[1 if batches else 0 :]
    anchors = session.outputs[0].shape[2]
    answer = ([] if batches else [1]) + [4 + len(manifest.labels), anchors or -1]
    return "\n".join(
        [
            f'name: "{manifest.name}"',
            'platform: "onnxruntime_onnx"',
            f"max_batch_size: {_TRITON_MAX_BATCH if batches else 0}",
            f'input [ {{ name: "{manifest.input.name}" data_type: TYPE_FP32 dims: {image} }} ]',
            f'output [ {{ name: "{session.outputs[0].name}" data_type: TYPE_FP32 dims: {answer} }} ]',
            *(["dynamic_batching { }"] if batches else []),
            "",
        ]
    )
