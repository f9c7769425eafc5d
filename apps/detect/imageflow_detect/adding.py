"""Puts an ONNX file into the model repository, after proof that it runs and is what Detect can read."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import ValidationError

from imageflow_common.errors import AlreadyExists, InvalidArgument, Violation
from imageflow_common.pixels import Pixels
from imageflow_detect.backend import OnnxSession, check_model
from imageflow_detect.detect import Found, as_found
from imageflow_detect.guessing import ACCEPTED, Guess, as_told, guess_layout, refused
from imageflow_detect.manifest import NAME_PATTERN, InputSpec, Manifest, ModelInvalid, Normalisation, Size
from imageflow_detect.models import MANIFEST_FILE, MODEL_FILE, Model, ModelRepository
from imageflow_detect.tensors import TensorInfo, shown
from imageflow_detect.trial import try_model

_DEFAULT_SIDE: Final = 640
_TRITON_MAX_BATCH: Final = 8
_TRITON_TYPES: Final = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}

Values = Literal["0..1", "-1..1", "0..255", "imagenet"]
VALUES: Final[dict[Values, Normalisation]] = {
    "0..1": Normalisation(),
    "-1..1": Normalisation(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),
    "0..255": Normalisation(scale=1.0),
    "imagenet": Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody knows of a model and its file does not say. None: as the file says, or as Ultralytics trains, which
    is 640×640, RGB, values 0…1, letterboxed with grey 114."""

    layout: str | None = None
    size: Size | None = None
    values: Values | None = None
    colour_order: Literal["rgb", "bgr"] = "rgb"
    fit: Literal["letterbox", "stretch"] = "letterbox"


class Added(NamedTuple):
    """A model that is there now; `remarks` say how it is read and why; `found` is what it found in the photograph."""

    model: Model
    remarks: tuple[str, ...]
    found: tuple[Found, ...]


def add_model(
    repository: ModelRepository,
    onnx_file: Path,
    *,
    name: str,
    labels: Sequence[str],
    version: int = 1,
    licence: str,
    source: str,
    photograph: Pixels,
    told: Told = Told(),
) -> Added:
    """Guesses from the file how it is read, unless told, then accepts it as `accept_model` does.

    Raises ModelInvalid for a file that is no such model (the text says what was seen and what is accepted),
    InvalidArgument for a bad name, label or version, and what `accept_model` raises.
    """
    _check_request(repository, name, version)
    session = _opened(onnx_file)
    image = _the_input(session)
    size = _size(image, told)
    guess = _guess(session, len(labels), size, told)
    try:
        manifest = Manifest(
            name=name,
            labels=tuple(labels),
            input=_input_spec(image, size, told),
            output=guess.output,
            licence=licence,
            source=source,
        )
    except ValidationError as exc:
        faults = [Violation(".".join(map(str, error["loc"])), error["msg"]) for error in exc.errors()]
        text = "; ".join(f"{fault.field}: {fault.description}" for fault in faults)
        raise InvalidArgument(f"the model cannot be added: {text}", violations=faults) from exc
    model, found = accept_model(repository, onnx_file, manifest, version=version, photograph=photograph)
    return Added(model, (_layout_remark(guess, told), _input_remark(manifest, told)), found)


def accept_model(
    repository: ModelRepository, onnx_file: Path, manifest: Manifest, *, version: int, photograph: Pixels
) -> tuple[Model, tuple[Found, ...]]:
    """Copies a file into the repository, and what it keeps in others beside it, with this manifest and Triton's
    configuration; all appear at once. Answers what it found in the photograph.

    A further version of a model must have its labels and its shapes; it becomes the newest by a larger number.
    Raises ModelInvalid when the file does not load, is not what the manifest says, or answers numbers to the photograph
    that cannot be; AlreadyExists for a version that is there.
    """
    _check_request(repository, manifest.name, version)
    session = _opened(onnx_file)
    check_model(session, manifest)
    boxes = try_model(session, manifest, photograph)
    if repository.versions(manifest.name):
        _check_same(manifest, repository.resolve(manifest.name).manifest)
    _publish(repository.directory, onnx_file, manifest, version, _config(session, manifest))
    found = as_found(boxes, labels=manifest.labels, to_input=photograph.to_input)
    return repository.resolve(manifest.name, str(version)), found


def remove_model(repository: ModelRepository, name: str, version: str = "") -> None:
    """Takes a version away, or all of a model; whoever runs it finishes. Raises ModelNotFound."""
    model = repository.resolve(name, version)
    place = repository.directory / name
    if version and len(repository.versions(name)) > 1:
        place = place / str(model.version)
    gone = Path(tempfile.mkdtemp(prefix=".removing-", dir=repository.directory))
    os.rename(place, gone / "model")
    shutil.rmtree(gone, ignore_errors=True)


def _check_request(repository: ModelRepository, name: str, version: int) -> None:
    faults = []
    if not re.fullmatch(NAME_PATTERN, name):
        faults.append(Violation("name", "1 to 128 of A-Z a-z 0-9 . _ -, not starting with a dot"))
    if not 1 <= version < 10**18:
        faults.append(Violation("version", "a whole number from 1"))
    if faults:
        text = "; ".join(f"{fault.field}: {fault.description}" for fault in faults)
        raise InvalidArgument(f"the model cannot be added: {text}", violations=faults)
    if version in repository.versions(name):
        raise AlreadyExists(
            f"model '{name}' has a version {version} already; its file never changes: add a new version"
        )


def _opened(onnx_file: Path) -> OnnxSession:
    if not onnx_file.is_file():
        raise InvalidArgument(f"there is no file {onnx_file.name}", violations=[Violation("file", "not a file")])
    try:
        return OnnxSession(onnx_file)
    except ModelInvalid as exc:
        raise ModelInvalid(f"{onnx_file.name} cannot be used: {exc.message}; {ACCEPTED}") from exc


def _the_input(session: OnnxSession) -> TensorInfo:
    if len(session.inputs) != 1:
        raise refused(f"it has {len(session.inputs)} inputs", session.inputs)
    image = session.inputs[0]
    if image.type not in ("tensor(float)", "tensor(uint8)"):
        raise refused("its input is neither float32 nor uint8 (export without half or int8)", session.inputs)
    if len(image.shape) != 4 or image.shape[1] not in (3, None) or image.shape[0] not in (1, None):
        nhwc = len(image.shape) == 4 and image.shape[3] == 3
        raise refused("its input is channels last" if nhwc else "its input is not one RGB image", session.inputs)
    return image


def _size(image: TensorInfo, told: Told) -> Size:
    """Of the input: the file's; where that is open, as told, else the usual one."""
    usual = told.size or Size(width=_DEFAULT_SIDE, height=_DEFAULT_SIDE)
    height, width = image.shape[2:]
    size = Size(width=width or usual.width, height=height or usual.height)
    if told.size not in (None, size):
        raise InvalidArgument(
            f"the model's input is {shown(image.shape)}, and cannot be {usual.width}×{usual.height}",
            violations=[Violation("size", f"the model has {size.width}×{size.height}")],
        )
    return size


def _guess(session: OnnxSession, labels: int, size: Size, told: Told) -> Guess:
    if told.layout is not None:
        return Guess(as_told(told.layout, session.outputs, labels=labels), "as told")
    return guess_layout(session.outputs, labels=labels, size=size)


def _input_spec(image: TensorInfo, size: Size, told: Told) -> InputSpec:
    return InputSpec(
        name=image.name,
        type="uint8" if image.type == "tensor(uint8)" else "float32",
        size=size,
        fit=told.fit,
        colour_order=told.colour_order,
        normalisation=VALUES[told.values or "0..1"],
    )


def _layout_remark(guess: Guess, told: Told) -> str:
    how = "as told" if told.layout is not None else f"guessed: {guess.why}"
    return f"layout {guess.output.layout}, {how}"


def _input_remark(manifest: Manifest, told: Told) -> str:
    spec = manifest.input
    values = "bytes as they are" if spec.type == "uint8" else f"values {told.values or '0..1'}"
    fit = "stretched" if spec.fit == "stretch" else "letterboxed on {}, {}, {}".format(*spec.letterbox_colour)
    size = f"{spec.size.width}×{spec.size.height}"
    return f"input {size}, {spec.colour_order.upper()}, {values}, {fit} (the last three are no part of a file)"


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


def _external_files(onnx_file: Path) -> set[Path]:
    """The files beside it, or below, in which a model keeps weights."""
    import onnx

    model = onnx.load_model(str(onnx_file), load_external_data=False)
    entries = [each for tensor in model.graph.initializer for each in tensor.external_data]
    return {Path(each.value) for each in entries if each.key == "location"}


def _publish(directory: Path, onnx_file: Path, manifest: Manifest, version: int, config: str) -> None:
    """Builds everything under a hidden name beside its place, then renames it there."""
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=directory))
    try:
        built = staging / manifest.name
        (built / str(version)).mkdir(parents=True)
        shutil.copyfile(onnx_file, built / str(version) / MODEL_FILE)
        for part in _external_files(onnx_file):
            (built / str(version) / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(onnx_file.parent / part, built / str(version) / part)
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
    outputs = {each.name: each.shape for each in session.outputs}
    batches = session.inputs[0].shape[0] is None and all(shape[0] is None for shape in outputs.values())
    image = list(manifest.input_shape)[1 if batches else 0 :]
    kind = _TRITON_TYPES[manifest.input.type]
    answers = [
        f'  {{ name: "{name}" data_type: TYPE_FP32 dims: {_triton_dims(outputs[name], batches)} }}'
        for name in manifest.output_names
    ]
    return "\n".join(
        [
            f'name: "{manifest.name}"',
            'platform: "onnxruntime_onnx"',
            f"max_batch_size: {_TRITON_MAX_BATCH if batches else 0}",
            f'input [ {{ name: "{manifest.input.name}" data_type: {kind} dims: {image} }} ]',
            "output [\n" + ",\n".join(answers) + "\n]",
            "version_policy { all { } }",
            *(["dynamic_batching { }"] if batches else []),
            "",
        ]
    )


def _triton_dims(shape: tuple[int | None, ...], batches: bool) -> list[int]:
    """Without the batch where that is Triton's; one image where it is open and is not; -1 for an open size."""
    first = [] if batches else [shape[0] or 1]
    return first + [size or -1 for size in shape[1:]]
