"""What each layout means, read slowly: one anchor after the other, plain numbers, no part of the product."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """Corners, in whatever pixels."""

    left: float
    top: float
    right: float
    bottom: float
    score: float
    class_id: int

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)

    @property
    def is_one(self) -> bool:
        return all(map(math.isfinite, self[:5])) and self.right > self.left and self.bottom > self.top


@dataclass(frozen=True)
class Frame:
    """Where a width×height picture lies in the network's input: network = picture * scale + offset, per axis."""

    width: int
    height: int
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def in_picture(self, box: Box) -> Box:
        (across, down), (x, y) = self.scale, self.offset
        return box._replace(
            left=(box.left - x) / across,
            top=(box.top - y) / down,
            right=(box.right - x) / across,
            bottom=(box.bottom - y) / down,
        )

    def clipped(self, box: Box) -> Box:
        return box._replace(
            left=min(max(box.left, 0.0), self.width),
            top=min(max(box.top, 0.0), self.height),
            right=min(max(box.right, 0.0), self.width),
            bottom=min(max(box.bottom, 0.0), self.height),
        )


def detections(
    boxes: Iterator[Box],
    frame: Frame,
    *,
    confidence: float,
    nms: float | None,
    most: int = 300,
    agnostic: bool = False,
    smallest: float = 0.0,
) -> list[Box]:
    """The strongest first; `nms` None: the network has done it. A box counts when something of it is in the picture."""
    found = [frame.in_picture(box) for box in boxes if box.is_one and box.score >= confidence]
    seen = [box for box in found if _is_seen(frame.clipped(box), smallest)]
    kept: list[Box] = []
    for box in sorted(seen, key=lambda each: -each.score):
        rivals = [each for each in kept if agnostic or each.class_id == box.class_id] if nms is not None else []
        if len(kept) < most and all(iou(box, each) <= nms for each in rivals):
            kept.append(box)
    return [frame.clipped(box) for box in kept]


def _is_seen(box: Box, smallest: float) -> bool:
    return box.is_one and min(box.right - box.left, box.bottom - box.top) >= smallest


def iou(one: Box, other: Box) -> float:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    if across <= 0 or down <= 0:
        return 0.0
    return across * down / (one.area + other.area - across * down)


def yolo_v8(answer: Sequence[np.ndarray]) -> Iterator[Box]:
    (output,) = answer
    for anchor in range(output.shape[2]):
        x, y, width, height, *scores = (float(value) for value in output[0, :, anchor])
        yield _from_centre(x, y, width, height, scores)


def yolo_v5(answer: Sequence[np.ndarray]) -> Iterator[Box]:
    (output,) = answer
    for row in output[0]:
        x, y, width, height = (float(value) for value in row[:4])
        yield _from_centre(x, y, width, height, [float(row[4] * score) for score in row[5:]])


def end_to_end(answer: Sequence[np.ndarray]) -> Iterator[Box]:
    (output,) = answer
    for row in output[0]:
        left, top, right, bottom, score, class_id = (float(value) for value in row)
        yield Box(left, top, right, bottom, score, int(class_id))


def ssd(
    answer: Sequence[np.ndarray],
    *,
    size: tuple[int, int],
    scales: Sequence[float] = (10, 10, 5, 5),
    background: bool = True,
    softmax: bool = False,
    first: str = "y",
) -> Iterator[Box]:
    boxes, logits, anchors = answer
    for row, classes, anchor in zip(boxes[0], logits[0], anchors.reshape(-1, 4), strict=True):
        ty, tx, th, tw = (float(value) / scale for value, scale in zip(row, scales, strict=True))
        y, x, high, wide = (float(value) for value in anchor)
        if first == "x":
            (tx, ty, tw, th), (x, y, wide, high) = (ty, tx, th, tw), (y, x, high, wide)
        scores = _softmax(classes) if softmax else [1 / (1 + math.exp(-float(value))) for value in classes]
        width, height = size
        yield _from_centre(
            (tx * wide + x) * width,
            (ty * high + y) * height,
            math.exp(tw) * wide * width,
            math.exp(th) * high * height,
            scores[1:] if background else scores,
        )


def _softmax(values: np.ndarray) -> list[float]:
    powers = [math.exp(float(value) - float(values.max())) for value in values]
    return [power / sum(powers) for power in powers]


def _from_centre(x: float, y: float, width: float, height: float, scores: list[float]) -> Box:
    best = max(scores)
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2, best, scores.index(best))
