"""Writes the trained net as ONNX, batch norms folded and box decoding inside the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from network import CELLS, HEADS, LAYERS, Arrays, Layer, cell_grid, fold
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from scenes import INPUT_SIZE

OPSET = 17
IR_VERSION = 8


def write_onnx(parameters: Arrays, statistics: Arrays, path: Path) -> None:
    """Writes `images` float32 [batch, 3, S, S] -> `output0` float32 [batch, 5, A], YOLOv8's layout.

    Rows of `output0`: cx, cy, w, h in input pixels, then the score of "coin", 0..1.
    """
    nodes: list[NodeProto] = []
    constants: dict[str, NDArray[np.generic]] = {"twice": np.array([1, 1, 2, 2], np.float32)}
    for layer in LAYERS:
        weight, bias = fold(parameters, statistics, layer)
        constants |= {f"{layer.name}.weight": weight, f"{layer.name}.bias": bias}
        nodes += _layer_nodes(layer)
    nodes += _decode_nodes(constants)

    graph = helper.make_graph(
        nodes,
        "coins",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, INPUT_SIZE, INPUT_SIZE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 5, CELLS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="imageflow-coins",
    )
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def _layer_nodes(layer: Layer) -> list[NodeProto]:
    convolved = layer.name if layer.final else f"{layer.name}.convolved"
    pad = layer.kernel // 2
    nodes = [
        helper.make_node(
            "Conv",
            [layer.source, f"{layer.name}.weight", f"{layer.name}.bias"],
            [convolved],
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=[pad] * 4,
        )
    ]
    if layer.final:
        return nodes
    if layer.merge:
        enlarged, convolved, summand = f"{layer.name}.enlarged", f"{layer.name}.merged", convolved
        nodes.append(
            helper.make_node(
                "Resize",
                [layer.merge, "", "twice"],
                [enlarged],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        )
        nodes.append(helper.make_node("Add", [summand, enlarged], [convolved]))
    return [*nodes, helper.make_node("Relu", [convolved], [layer.name])]


def _decode_nodes(constants: dict[str, NDArray[np.generic]]) -> list[NodeProto]:
    """From side distances and logits to centres, sizes and scores."""
    centres, strides = cell_grid()
    constants |= {
        "flat": np.array([0, 5, -1], np.int64),
        "parts": np.array([2, 2, 1], np.int64),
        "centres": centres.T[None],
        "strides": strides[None, None],
        "half": np.array(0.5, np.float32),
    }
    node = helper.make_node
    return [
        *(node("Reshape", [head, "flat"], [f"{head}.flat"]) for head in HEADS),
        node("Concat", [f"{head}.flat" for head in HEADS], ["cells"], axis=2),
        node("Split", ["cells", "parts"], ["near.raw", "far.raw", "logits"], axis=1),
        node("Softplus", ["near.raw"], ["near.cells"]),
        node("Softplus", ["far.raw"], ["far.cells"]),
        node("Mul", ["near.cells", "strides"], ["near"]),
        node("Mul", ["far.cells", "strides"], ["far"]),
        node("Sub", ["far", "near"], ["lean"]),
        node("Mul", ["lean", "half"], ["offset"]),
        node("Add", ["centres", "offset"], ["middle"]),
        node("Add", ["near", "far"], ["size"]),
        node("Sigmoid", ["logits"], ["scores"]),
        node("Concat", ["middle", "size", "scores"], ["output0"], axis=1),
    ]
