"""Networks with fixed weights, one for each layout: a convolution looks at squares of 8×8, and what it sees there
becomes the numbers of that layout. So every anchor's box and scores depend on the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imageflow_detect.manifest import Manifest
from imageflow_detect.toy_models import SIDE, manifest_of, save_model

LABELS = ("cat", "dog", "cow")
_STRIDE = 8
_CELLS = (SIDE // _STRIDE) ** 2
_IMAGE = ("images", TensorProto.FLOAT, (1, 3, SIDE, SIDE))


def network(layout: str, repository: Path, *, seed: int = 0) -> Manifest:
    """Puts it into a repository as model `LAYOUT`, and answers its manifest."""
    file = repository / layout / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    builder = {"yolo_v8": _yolo_v8, "yolo_v5": _yolo_v5, "end_to_end": _end_to_end, "ssd": _ssd}[layout]
    builder(file, np.random.default_rng(seed))
    output = {"layout": layout} | ({} if layout == "ssd" else {"name": "output0"})
    fit = "stretch" if layout == "ssd" else "letterbox"
    size = {"width": SIDE, "height": SIDE}
    manifest = manifest_of(layout, labels=LABELS, input={"size": size, "fit": fit}, output=output)
    (repository / layout / "manifest.yaml").write_text(manifest.to_yaml())
    return manifest


class _Graph:
    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str | np.ndarray, **attributes: object) -> str:
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [out], **attributes))
        return out

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def seen(self, channels: int) -> str:
        """`[1, channels, cells]`, about normal, from the picture."""
        weights = self.random.normal(0, 0.25, (channels, 3, _STRIDE, _STRIDE)).astype(np.float32)
        centred = self.op("Sub", "images", np.float32(0.5).reshape(()))
        convolved = self.op("Conv", centred, weights, strides=[_STRIDE, _STRIDE])
        return self.op("Reshape", convolved, np.array([1, channels, _CELLS]))

    def part(self, seen: str, start: int, end: int) -> str:
        return self.op("Slice", seen, np.array([start]), np.array([end]), np.array([1]))

    def spread(self, seen: str, start: int, end: int, low: float, high: float) -> str:
        """These channels as numbers of low…high."""
        certain = self.op("Sigmoid", self.part(seen, start, end))
        return self.op("Add", self.op("Mul", certain, np.float32(high - low).reshape(())), np.float32(low).reshape(()))

    def save(self, file: Path, outputs: dict[str, tuple[str, tuple[int, ...]]]) -> None:
        for name, (tensor, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        shapes = [(name, shape) for name, (_, shape) in outputs.items()]
        save_model(self.nodes, self.constants, file, _IMAGE, shapes)


def _yolo_v8(file: Path, random: np.random.Generator) -> None:
    graph, rows = _Graph(random), 4 + len(LABELS)
    seen = graph.seen(rows)
    parts = [graph.spread(seen, 0, 2, -4, 68), graph.spread(seen, 2, 4, 1, 40), graph.spread(seen, 4, rows, 0, 1)]
    graph.save(file, {"output0": (graph.op("Concat", *parts, axis=1), (1, rows, _CELLS))})


def _yolo_v5(file: Path, random: np.random.Generator) -> None:
    graph, rows = _Graph(random), 5 + len(LABELS)
    seen = graph.seen(rows)
    parts = [graph.spread(seen, 0, 2, -4, 68), graph.spread(seen, 2, 4, 1, 40), graph.spread(seen, 4, rows, 0, 1)]
    columns = graph.op("Concat", *parts, axis=1)
    graph.save(file, {"output0": (graph.op("Transpose", columns, perm=[0, 2, 1]), (1, _CELLS, rows))})


def _end_to_end(file: Path, random: np.random.Generator) -> None:
    graph = _Graph(random)
    seen = graph.seen(6)
    corner = graph.spread(seen, 0, 2, -4, 60)
    opposite = graph.op("Add", corner, graph.spread(seen, 2, 4, 1, 30))
    class_id = graph.op("Floor", graph.spread(seen, 5, 6, 0, len(LABELS) - 0.01))
    columns = graph.op("Concat", corner, opposite, graph.spread(seen, 4, 5, 0, 1), class_id, axis=1)
    graph.save(file, {"output0": (graph.op("Transpose", columns, perm=[0, 2, 1]), (1, _CELLS, 6))})


def _ssd(file: Path, random: np.random.Generator) -> None:
    graph, classes = _Graph(random), 1 + len(LABELS)
    seen = graph.seen(4 + classes)
    boxes = graph.op("Transpose", graph.spread(seen, 0, 4, -8, 8), perm=[0, 2, 1])
    logits = graph.op("Transpose", graph.spread(seen, 4, 4 + classes, -5, 4), perm=[0, 2, 1])
    anchors = random.uniform([0, 0, 0.05, 0.05], [1, 1, 0.4, 0.4], (_CELLS, 4)).astype(np.float32)
    graph.save(
        file,
        {
            "boxes": (boxes, (1, _CELLS, 4)),
            "scores": (logits, (1, _CELLS, classes)),
            "anchors": (graph.constant(anchors), (_CELLS, 4)),
        },
    )
