"""The network of `benchmarks.triton`: of the size of a YOLO at its ends, and small between them, so that what is around
inference can be seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from imageflow_detect.manifest import InputSpec, Manifest, Size

from .workloads import MODELS

NAME = "wide"
SIDE = 640
CLASSES = 80
STRIDES = (8, 16, 32)
_SPREAD = 2.0
"""What makes about a hundred of 8,400 anchors sure enough."""


def put_network(repository: Path) -> None:
    """Beside the demo's model."""
    shutil.copytree(MODELS / "coins", repository / "coins")
    folder = repository / NAME
    (folder / "1").mkdir(parents=True)
    onnx.save(_network(), str(folder / "1" / "model.onnx"))
    manifest = Manifest(
        name=NAME,
        labels=tuple(f"class {number}" for number in range(CLASSES)),
        input=InputSpec(size=Size(width=SIDE, height=SIDE)),
        licence="Apache-2.0",
        source="made by a benchmark",
    )
    (folder / "manifest.yaml").write_text(manifest.to_yaml())
    (folder / "config.pbtxt").write_text(
        f'name: "{NAME}"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8\n'
        f'input [ {{ name: "images" data_type: TYPE_FP32 dims: [ 3, {SIDE}, {SIDE} ] }} ]\n'
        f'output [ {{ name: "output0" data_type: TYPE_FP32 dims: [ {4 + CLASSES}, 8400 ] }} ]\n'
        "instance_group [ { count: 2 kind: KIND_CPU } ]\ndynamic_batching { }\n"
    )


def _network() -> onnx.ModelProto:
    """A convolution for each stride sees the picture and becomes scores; boxes are its anchors."""
    random = np.random.default_rng(6)
    nodes, constants = [], {"boxes": _boxes(), "shape": np.array([0, CLASSES, -1]), "zero": np.zeros(1, np.float32)}
    for stride in STRIDES:
        weights = random.normal(0, _SPREAD / stride, (CLASSES, 3, stride, stride)).astype(np.float32)
        constants[f"weights{stride}"] = weights - weights.mean()
        constants[f"bias{stride}"] = np.full(CLASSES, -5.5, np.float32)
        nodes += [
            helper.make_node(
                "Conv", ["images", f"weights{stride}", f"bias{stride}"], [f"seen{stride}"], strides=[stride, stride]
            ),
            helper.make_node("Reshape", [f"seen{stride}", "shape"], [f"flat{stride}"]),
        ]
    nodes += [
        helper.make_node("Concat", [f"flat{stride}" for stride in STRIDES], ["logits"], axis=2),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("ReduceMean", ["scores"], ["one"], axes=[1, 2], keepdims=1),
        helper.make_node("Mul", ["one", "zero"], ["none"]),
        helper.make_node("Add", ["boxes", "none"], ["placed"]),
        helper.make_node("Concat", ["placed", "scores"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["n", 4 + CLASSES, 8400])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def _boxes() -> npt.NDArray[np.float32]:
    parts = []
    for stride in STRIDES:
        middles = (np.arange(SIDE // stride) + 0.5) * stride
        x, y = np.meshgrid(middles, middles)
        size = np.full(x.size, 2.0 * stride)
        parts.append(np.stack([x.ravel(), y.ravel(), size, size]))
    return np.concatenate(parts, axis=1).astype(np.float32)[None]
