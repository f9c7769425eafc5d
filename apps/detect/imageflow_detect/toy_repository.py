"""A repository of toy models with Triton's configuration, for tests only: this module needs the `onnx` package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from imageflow_detect.manifest import Manifest
from imageflow_detect.toy_models import SIDE, columns, manifest_of

ANCHORS = 100
SLOW_STEPS = 20


def fill(repository: Path) -> None:
    """`mean` adds the mean of the image to what is fixed: 0 but for one column; two versions, which differ in it.
    `bytes` does so with uint8. `nan` answers no numbers, `dark` none but to a black image. `rows` answers as many rows
    as the image's first value says. `ssd` has three outputs. `slow` takes a second or more. `broken` is no model."""
    mean = columns((10, 10, 8, 8, 0, 0.5), anchors=ANCHORS)
    _put(repository, "mean", _mean_model(mean), batch=8)
    _put(repository, "mean", _mean_model(mean + 1), version=2, batch=8)
    _put(repository, "bytes", _mean_model(mean, TensorProto.UINT8), manifest_of("bytes", input={"type": "uint8"}))
    _put(repository, "nan", _mean_model(mean * np.float32("nan")))
    put_dark_model(repository, "dark")
    rows = manifest_of("rows", output={"layout": "end_to_end"})
    _put(repository, "rows", _rows_model(), rows, outputs={"output0": (1, -1, 6)})
    ssd = manifest_of("ssd", output={"layout": "ssd", "background": False})
    shapes = {"boxes": (1, 5, 4), "scores": (1, 5, 2), "anchors": (5, 4)}
    _put(repository, "ssd", _constants_model(shapes), ssd, outputs=shapes | {"boxes": (1, -1, 4)})
    put_slow_model(repository)
    _put(repository, "broken", _mean_model(mean))
    (repository / "broken" / "1" / "model.onnx").write_bytes(b"no model")


def put_mean_model(
    repository: Path, name: str, *, batch: int = 0, add: float = 0.0, version: int = 1, side: int = SIDE
) -> None:
    """The model `mean` under a name of its own."""
    fixed = columns((10, 10, 8, 8, 0, 0.5), anchors=ANCHORS) + np.float32(add)
    manifest = manifest_of(name, input={"size": {"width": side, "height": side}})
    _put(repository, name, _mean_model(fixed, side=side), manifest, version=version, batch=batch)


def put_dark_model(repository: Path, name: str) -> None:
    """Answers one box to a black image, and NaN to any other."""
    fixed = columns((10, 10, 8, 8, 0, 0.5), anchors=ANCHORS)
    _put(repository, name, _mean_model(fixed, through=("Neg", "Sqrt")), manifest_of(name))


def put_slow_model(repository: Path) -> None:
    _put(repository, "slow", _slow_model())


def image_of(value: float, kind: type = np.float32, side: int = SIDE) -> npt.NDArray[np.float32]:
    """A network's input, all of one value."""
    return np.full((1, 3, side, side), value, kind)


def _put(
    repository: Path,
    name: str,
    model: onnx.ModelProto,
    manifest: Manifest | None = None,
    *,
    version: int = 1,
    batch: int = 0,
    outputs: Mapping[str, Sequence[int]] | None = None,
) -> None:
    manifest = manifest or manifest_of(name)
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "model.onnx"))
    (repository / name / "manifest.yaml").write_text(manifest.to_yaml())
    config = _config(manifest, batch, outputs or {"output0": (1, 6, ANCHORS)})
    (repository / name / "config.pbtxt").write_text(config)


def _config(manifest: Manifest, batch: int, outputs: Mapping[str, Sequence[int]]) -> str:
    first = 1 if batch else 0
    kind = "TYPE_UINT8" if manifest.input.type == "uint8" else "TYPE_FP32"
    shape = list(manifest.input_shape[first:])
    return "\n".join(
        [
            f'name: "{manifest.name}"',
            'platform: "onnxruntime_onnx"',
            f"max_batch_size: {batch}",
            f'input [ {{ name: "images" data_type: {kind} dims: {shape} }} ]',
            *(f'output [ {{ name: "{n}" data_type: TYPE_FP32 dims: {list(s[first:])} }} ]' for n, s in outputs.items()),
            "version_policy { all { } }",
            "instance_group [ { count: 1 kind: KIND_CPU } ]",
            *(["dynamic_batching { max_queue_delay_microseconds: 2000 }"] if batch else []),
            "",
        ]
    )


def _mean_model(
    fixed: npt.NDArray[np.float32],
    input_type: int = TensorProto.FLOAT,
    side: int = SIDE,
    through: Sequence[str] = (),
) -> onnx.ModelProto:
    names = ["mean", *(f"{operator} of mean" for operator in through)]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2, 3], keepdims=1),
        *(helper.make_node(operator, [names[n]], [names[n + 1]]) for n, operator in enumerate(through)),
        helper.make_node("Reshape", [names[-1], "column"], ["means"]),
        helper.make_node("Add", ["fixed", "means"], ["output0"]),
    ]
    constants = {"column": np.array([-1, 1, 1]), "fixed": fixed}
    return _model(nodes, constants, {"output0": ("n", *fixed.shape[1:])}, input_type, batch="n", side=side)


def _rows_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Slice", ["images", "zeros", "ones", "axes"], ["first"]),
        helper.make_node("Reshape", ["first", "flat"], ["value"]),
        helper.make_node("Cast", ["value"], ["count"], to=TensorProto.INT64),
        helper.make_node("Slice", ["fixed", "from", "count", "rows"], ["output0"]),
    ]
    constants = {
        "zeros": np.zeros(3, np.int64),
        "ones": np.ones(3, np.int64),
        "axes": np.array([1, 2, 3]),
        "flat": np.array([1]),
        "from": np.array([0]),
        "rows": np.array([1]),
        "fixed": np.arange(120, dtype=np.float32).reshape(1, 20, 6),
    }
    return _model(nodes, constants, {"output0": (1, "rows", 6)})


def _constants_model(shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", [f"fixed_{name}"], [name]) for name in shapes]
    constants = {
        f"fixed_{name}": np.full(shape, number, np.float32) for number, (name, shape) in enumerate(shapes.items(), 1)
    }
    return _model(nodes, constants, shapes)


def _slow_model() -> onnx.ModelProto:
    """A chain of products of large matrices that ends in zeros."""
    side = 700
    names = ["image_times_zero", *(f"product{n}" for n in range(SLOW_STEPS))]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["large", "mean"], [names[0]]),
        *(helper.make_node("MatMul", [names[n], "large"], [names[n + 1]]) for n in range(SLOW_STEPS)),
        helper.make_node("ReduceMean", [names[-1]], ["end"], axes=[0, 1], keepdims=0),
        helper.make_node("Add", ["fixed", "end"], ["output0"]),
    ]
    constants = {"large": np.full((side, side), 1 / side, np.float32), "fixed": np.zeros((1, 6, ANCHORS), np.float32)}
    return _model(nodes, constants, {"output0": (1, 6, ANCHORS)})


def _model(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, npt.NDArray[np.generic]],
    outputs: Mapping[str, Sequence[int | str]],
    input_type: int = TensorProto.FLOAT,
    batch: int | str = 1,
    side: int = SIDE,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", input_type, [batch, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model
