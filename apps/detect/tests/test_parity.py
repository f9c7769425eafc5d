"""Our boxes against those of a slow reading of each layout, in reference.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from skimage import data

from imageflow_common.pixels import IDENTITY, Pixels
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.boxes import Boxes
from imageflow_detect.decode import Wanted, decode
from imageflow_detect.detect import Detector, Question
from imageflow_detect.letterbox import letterbox
from imageflow_detect.manifest import Manifest
from imageflow_detect.models import ModelRepository
from imageflow_detect.toy_models import SIDE, columns, manifest_of

from . import reference
from .networks import network
from .reference import Box, Frame

LAYOUTS = ("yolo_v8", "yolo_v5", "end_to_end", "ssd")
READERS: dict[str, Callable[[Sequence[np.ndarray]], Iterator[Box]]] = {
    "yolo_v8": reference.yolo_v8,
    "yolo_v5": reference.yolo_v5,
    "end_to_end": reference.end_to_end,
    "ssd": partial(reference.ssd, size=(SIDE, SIDE)),
}
PICTURES = 120
"""Random ones, for each layout."""


def random_picture(random: np.random.Generator) -> np.ndarray:
    height, width = random.integers(1, 200, 2)
    picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return picture // random.integers(1, 8).astype(np.uint8)


def photographs() -> list[np.ndarray]:
    return [data.astronaut(), data.chelsea(), data.coffee(), np.repeat(data.coins()[..., None], 3, axis=2)]


def frame_of(picture: np.ndarray, manifest: Manifest) -> Frame:
    """Where the picture lies, from the definition of the letterbox."""
    height, width = picture.shape[:2]
    if manifest.input.fit == "stretch":
        return Frame(width, height, (SIDE / width, SIDE / height))
    scale = min(SIDE / width, SIDE / height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    return Frame(width, height, (across / width, down / height), ((SIDE - across) // 2, (SIDE - down) // 2))


def assert_same(ours: Sequence[Box], slow: Sequence[Box]) -> None:
    assert [box.class_id for box in ours] == [box.class_id for box in slow]
    np.testing.assert_allclose(np.array(ours), np.array(slow), rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_network_gives_the_boxes_that_its_layout_means(layout: str, tmp_path: Path) -> None:
    manifest = network(layout, tmp_path)
    detector = Detector(ModelRepository(tmp_path), OnnxBackend())
    session = onnxruntime.InferenceSession(str(tmp_path / layout / "1" / "model.onnx"))
    random = np.random.default_rng(1)
    found = 0
    for picture in [*(random_picture(random) for _ in range(PICTURES)), *photographs()]:
        confidence, nms = float(random.uniform(0.2, 0.9)), float(random.uniform(0.1, 0.9))
        agnostic, most = bool(random.integers(2)), int(random.integers(1, 40))
        question = Question(
            layout, confidence_threshold=confidence, nms_threshold=nms, class_agnostic=agnostic, max_detections=most
        )
        done = detector.detect(Pixels(picture), question)
        ours = [_box(each.box, each.confidence, each.class_id) for each in done.found]
        answer = session.run(list(manifest.output_names), {"images": letterbox(Pixels(picture), manifest).tensor})
        assert_same(
            ours,
            reference.detections(
                READERS[layout](answer),
                frame_of(picture, manifest),
                confidence=confidence,
                nms=None if layout == "end_to_end" else nms,
                most=most,
                agnostic=agnostic,
            ),
        )
        found += len(ours)
    assert found > PICTURES


def _box(box: Any, score: float, class_id: int) -> Box:
    return Box(box.x, box.y, box.x + box.width, box.y + box.height, score, class_id)


def both(answer: Sequence[np.ndarray], manifest: Manifest, **changes: Any) -> tuple[list[Box], list[Box]]:
    """Ours, and the slow ones, of one answer, in network pixels."""
    wanted = replace(Wanted(), **changes)
    boxes = decode(answer, manifest=manifest, to_pixels=IDENTITY, width=SIDE, height=SIDE, wanted=wanted)
    layout = manifest.output.layout
    slow = reference.detections(
        READERS[layout](answer),
        Frame(SIDE, SIDE),
        confidence=wanted.confidence_threshold,
        nms=None if layout == "end_to_end" else wanted.nms_threshold,
        most=wanted.max_detections,
        smallest=wanted.min_box_size,
    )
    return _listed(boxes), slow


def _listed(boxes: Boxes) -> list[Box]:
    rows = zip(boxes.corners.tolist(), boxes.scores.tolist(), boxes.class_ids.tolist(), strict=True)
    return [Box(*corners, score, class_id) for corners, score, class_id in rows]


def as_layout(output: np.ndarray, layout: str) -> tuple[list[np.ndarray], Manifest]:
    """A yolo_v8 answer of two classes as another layout says the same."""
    rows = output[0].T
    manifest = manifest_of(output={"layout": layout})
    if layout == "yolo_v8":
        return [output], manifest
    if layout == "yolo_v5":
        return [
            np.concatenate([rows[:, :4], np.ones((len(rows), 1)), rows[:, 4:]], axis=1)[None].astype("f4")
        ], manifest
    if layout == "end_to_end":
        corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)
        best = np.stack([rows[:, 4:].max(axis=1), rows[:, 4:].argmax(axis=1)], axis=1)
        return [np.concatenate([corners, best], axis=1)[None].astype("f4")], manifest
    anchors = np.tile(np.array([0.5, 0.5, 0.25, 0.25], np.float32), (len(rows), 1))
    moves = 10 * (rows[:, [1, 0]] / SIDE - 0.5) / 0.25
    growth = 5 * np.log(np.maximum(rows[:, [3, 2]], 1e-9) / SIDE / 0.25)
    certain = np.clip(rows[:, 4:], 1e-7, 1 - 1e-7)
    logits = np.concatenate([np.zeros((len(rows), 1)), np.log(certain / (1 - certain))], axis=1)
    boxes = np.concatenate([moves, growth], axis=1)
    return [boxes[None].astype("f4"), logits[None].astype("f4"), anchors], manifest


HARD_CASES: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "none": (columns(), {}),
    "none, and no threshold": (columns(), {"confidence_threshold": 0.0}),
    "boxes of one pixel": (columns(*[(x + 0.5, 7.5, 1, 1, x % 2, 0.6 + x / 200) for x in range(64)]), {}),
    "boxes smaller than a pixel": (columns(*[(x + 0.1, 7.1, 0.02, 0.02, 0, 0.9) for x in range(64)]), {}),
    "ties": (columns(*[(5 + 0.75 * n, 10, 12, 12, n % 2, 0.75) for n in range(60)]), {}),
    "the same box a hundred times": (columns(*[(20, 20, 9, 9, 0, 0.75) for _ in range(100)]), {}),
    "an overlap of exactly the threshold": (
        columns((10, 5, 20, 10, 0, 0.9), (10, 2, 20, 4, 0, 0.8), (10, 40, 20, 10, 0, 0.7), (10, 38, 20, 4, 0, 0.6)),
        {"nms_threshold": 0.4},
    ),
    "boxes over every border": (
        columns((0, 0, 20, 20, 0, 0.9), (64, 64, 30, 20, 1, 0.8), (32, 32, 200, 200, 0, 0.7), (32, -1, 9, 4, 0, 0.6)),
        {},
    ),
    "boxes that touch the border from outside": (columns((-5, 10, 10, 4, 0, 0.9), (69, 10, 10, 4, 0, 0.9)), {}),
    "a score of exactly the threshold": (columns((9, 9, 4, 4, 0, 0.5), (30, 9, 4, 4, 0, np.nextafter(0.5, 0))), {}),
    "boxes below the smallest": (columns((9, 9, 5, 40, 0, 0.9), (40, 9, 6, 6, 0, 0.8)), {"min_box_size": 6}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", HARD_CASES)
def test_hard_cases_are_read_alike(case: str, layout: str) -> None:
    output, wanted = HARD_CASES[case]
    answer, manifest = as_layout(output, layout)
    assert_same(*both(answer, manifest, **wanted))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_8400_boxes_at_once_are_read_alike(layout: str) -> None:
    random = np.random.default_rng(3)
    output = np.concatenate(
        [random.uniform(0, SIDE, (2, 8400)), random.uniform(1, 30, (2, 8400)), random.uniform(0.5, 1, (2, 8400))]
    )
    answer, manifest = as_layout(output[None].astype(np.float32), layout)
    ours, slow = both(answer, manifest, confidence_threshold=0.4, nms_threshold=0.8, max_detections=60)
    assert len(ours) == 60
    assert_same(ours, slow)


@pytest.mark.parametrize(
    "spec",
    [
        {"activation": "softmax"},
        {"background": False},
        {"order": "xywh", "scales": [10, 10, 5, 5]},
        {"scales": [1, 2, 3, 4]},
    ],
)
def test_an_ssd_is_read_as_its_manifest_says(spec: dict[str, Any]) -> None:
    random = np.random.default_rng(4)
    answer = [
        random.normal(0, 2, (1, 200, 4)).astype(np.float32),
        random.normal(0, 2, (1, 200, 2 + spec.get("background", True))).astype(np.float32),
        random.uniform([0, 0, 0.05, 0.05], [1, 1, 0.4, 0.4], (200, 4)).astype(np.float32),
    ]
    manifest = manifest_of(output={"layout": "ssd", **spec})
    boxes = decode(answer, manifest=manifest, to_pixels=IDENTITY, width=SIDE, height=SIDE, wanted=Wanted(0.6))
    slow = reference.ssd(
        answer,
        size=(SIDE, SIDE),
        scales=spec.get("scales", [10, 10, 5, 5]),
        background=spec.get("background", True),
        softmax="activation" in spec,
        first="x" if "order" in spec else "y",
    )
    assert len(boxes) > 5
    assert_same(_listed(boxes), reference.detections(slow, Frame(SIDE, SIDE), confidence=0.6, nms=0.4))
