"""Whether a model's tensors are what its manifest says: before it runs, and what it answered. Knows no backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from imageflow_detect.manifest import Manifest, ModelInvalid, SsdOutput

Array = npt.NDArray[np.float32]
Tensor = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
Shape: TypeAlias = tuple[int | None, ...]

_ONNX_TYPES: Final = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A model's input or output: its name, its element type as ONNX names it (`tensor(float)`), its shape,
    where a size that is not fixed is None."""

    name: str
    type: str
    shape: Shape


def check_tensors(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], manifest: Manifest) -> None:
    """Raises ModelInvalid when a model's input or outputs are not named, typed and shaped as the manifest says."""
    _check("input", inputs, manifest.input.name, [manifest.input_shape], manifest.input.type)
    for name, shapes in _answered(manifest).items():
        _check("output", outputs, name, shapes, "float32")


def check_answer(answer: Sequence[Array], manifest: Manifest) -> None:
    """Raises ModelInvalid when what a model answered, in the order of `manifest.output_names`, is not shaped as the
    manifest says."""
    expected = _answered(manifest)
    if len(answer) != len(expected):
        raise ModelInvalid(f"model '{manifest.name}' answers {len(answer)} arrays, not {len(expected)}")
    for array, (name, shapes) in zip(answer, expected.items(), strict=True):
        if not any(_fits(array.shape, shape) for shape in shapes):
            raise ModelInvalid(
                f"model '{manifest.name}' answers '{name}' of shape {shown(array.shape)}, not {_either(shapes)}"
            )


def shown(shape: Shape) -> str:
    """A shape for a message, `?` where a size is not fixed."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _answered(manifest: Manifest) -> Mapping[str, Sequence[Shape]]:
    """The shapes that each output may have, for one image."""
    classes, output = len(manifest.labels), manifest.output
    if isinstance(output, SsdOutput):
        rows = classes + output.background
        boxes, scores, anchors = output.names
        return {boxes: [(1, None, 4)], scores: [(1, None, rows)], anchors: [(None, 4), (1, None, 4)]}
    shapes: dict[str, Shape] = {
        "yolo_v8": (1, 4 + classes, None),
        "yolo_v5": (1, None, 5 + classes),
        "end_to_end": (1, None, 6),
    }
    return {output.name: [shapes[output.layout]]}


def _check(role: str, found: Sequence[TensorInfo], name: str, shapes: Sequence[Shape], kind: str) -> None:
    info = next((each for each in found if each.name == name), None)
    if info is None:
        there = ", ".join(each.name for each in found)
        raise ModelInvalid(f"the model has no {role} '{name}'; it has: {there}")
    if info.type != _ONNX_TYPES[kind]:
        wanted = _ONNX_TYPES[kind]
        raise ModelInvalid(f"the model's {role} '{name}' is {info.type}; the manifest means {wanted}, {kind}")
    if not any(_fits(info.shape, shape) for shape in shapes):
        raise ModelInvalid(f"the model's {role} '{name}' is {shown(info.shape)}; the manifest means {_either(shapes)}")


def _fits(found: Shape, wanted: Shape) -> bool:
    sizes = zip(found, wanted, strict=False)
    return len(found) == len(wanted) and all(None in (one, other) or one == other for one, other in sizes)


def _either(shapes: Sequence[Shape]) -> str:
    return " or ".join(shown(shape) for shape in shapes)
