"""Tiny ONNX models and repositories, for tests only: this module needs the `onnx` package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from imageflow_detect.manifest import Manifest

SIDE = 64
Shape = Sequence[int | str | None]


def manifest_of(
    name: str = "toy",
    *,
    labels: Sequence[str] = ("cat", "dog"),
    input: Mapping[str, object] | None = None,
    **changes: object,
) -> Manifest:
    """A manifest of a toy; `input` and `changes` replace parts of it."""
    document: dict[str, object] = {
        "name": name,
        "labels": list(labels),
        "input": {"size": {"width": SIDE, "height": SIDE}} | dict(input or {}),
        "licence": "Apache-2.0",
        "source": "made by a test",
    }
    return Manifest.model_validate(document | changes)


def fixed_output_model(
    output: npt.NDArray[np.float32],
    file: Path,
    *,
    input_shape: Shape = (1, 3, SIDE, SIDE),
    input_type: int = TensorProto.FLOAT,
    batched: bool = False,
) -> Path:
    """A model that answers `output` whatever it sees: the image's sum times zero is added to it. `batched`:
    an answer per image, so that the batch size stays open in the output's shape."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axes"] if batched else ["floats"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "shape"], ["column"]),
        helper.make_node("Add", ["fixed", "column"], ["output0"]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros((), np.float32), "zero"),
        numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
        numpy_helper.from_array(np.array([-1] + [1] * (output.ndim - 1)), "shape"),
        numpy_helper.from_array(output.astype(np.float32), "fixed"),
    ]
    shape: Shape = ("n", *output.shape[1:]) if batched else output.shape
    return save_model(nodes, constants, file, ("images", input_type, input_shape), [("output0", shape)])


def save_model(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    file: Path,
    image: tuple[str, int, Shape],
    outputs: Sequence[tuple[str, Shape]],
    *,
    opset: int = 17,
) -> Path:
    """Writes a graph from one image to these float32 outputs."""
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(image[0], image[1], list(image[2]))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 9
    onnx.save(model, str(file))
    return file


def several_outputs_model(shapes: Sequence[Sequence[int]], file: Path) -> Path:
    nodes = [helper.make_node("Identity", [f"fixed{n}"], [f"output{n}"]) for n in range(len(shapes))]
    constants = [numpy_helper.from_array(np.zeros(shape, np.float32), f"fixed{n}") for n, shape in enumerate(shapes)]
    image = ("images", TensorProto.FLOAT, (1, 3, SIDE, SIDE))
    return save_model(nodes, constants, file, image, [(f"output{n}", shape) for n, shape in enumerate(shapes)])


def columns(
    *boxes: tuple[float, float, float, float, int, float], classes: int = 2, anchors: int = 100
) -> npt.NDArray[np.float32]:
    """A yolo_v8 output holding boxes given as centre x, centre y, width, height, class, score."""
    output = np.zeros((1, 4 + classes, anchors), np.float32)
    for anchor, (x, y, width, height, class_id, score) in enumerate(boxes):
        output[0, :4, anchor] = x, y, width, height
        output[0, 4 + class_id, anchor] = score
    return output


def place(
    repository: Path,
    name: str,
    output: npt.NDArray[np.float32],
    *,
    version: int = 1,
    manifest: Manifest | None = None,
) -> None:
    """Puts a model that answers `output` into a repository, by hand."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    fixed_output_model(output, folder / "model.onnx")
    (repository / name / "manifest.yaml").write_text((manifest or manifest_of(name)).to_yaml())
