"""From what a network answers to boxes in the picture.

`yolo_v8`, what Ultralytics' YOLOv8 and YOLO11 detection exports answer: float32 `[1, 4 + classes, anchors]`,
each column centre x, centre y, width, height in network pixels and one score 0…1 per class.
Overlaps are resolved by greedy non-maximum suppression per class (Felzenszwalb et al., "Object Detection with
Discriminatively Trained Part-Based Models", 2010, section 4.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from imageflow_common.errors import ImageFlowError, InvalidParameters, Violation
from imageflow_common.pixels import Affine

MAX_CANDIDATES: Final = 3000
_BLOCK: Final = 64
_MOST_LABELS_IN_A_MESSAGE: Final = 20

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """N boxes as columns: `corners` float64 (N, 4) left, top, right, bottom; `scores` float64 (N,), 0…1;
    `class_ids` int64 (N,). Strongest first; equal scores keep the network's order."""

    corners: Floats
    scores: Floats
    class_ids: Integers

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, which: Booleans | Integers | slice) -> Boxes:
        return Boxes(self.corners[which], self.scores[which], self.class_ids[which])


def decode(
    output: npt.NDArray[np.float32],
    *,
    labels: Sequence[str],
    to_pixels: Affine,
    width: int,
    height: int,
    confidence_threshold: float,
    nms_threshold: float,
    max_detections: int,
    class_ids: frozenset[int] = frozenset(),
) -> Boxes:
    """The boxes in the pixels of a width×height picture, at most `max_detections`.

    A column counts for its best class, if that score is at least `confidence_threshold` and the class is
    among `class_ids` (empty: all). Only the MAX_CANDIDATES strongest go on, which bounds the work on a
    picture of noise. Boxes are clipped to the picture before suppression, so that no two boxes of a class in
    the answer have an intersection over union above `nms_threshold`. Dropped: columns with NaN or infinite
    values, and boxes with nothing inside the picture. Raises ImageFlowError for an output of another shape.
    """
    columns = _checked(output, classes=len(labels))
    candidates = _candidates(columns, confidence_threshold, class_ids)
    placed = _clipped(candidates, to_pixels, width=width, height=height)
    return placed.take(suppress(placed, nms_threshold, at_most=max_detections))


def class_ids_of(classes: Sequence[str], labels: Sequence[str]) -> frozenset[int]:
    """The ids of classes given by label or, where no label reads so, by id.

    Raises InvalidParameters with every unknown class; the text names the labels there are.
    """
    ids = {label: number for number, label in enumerate(labels)}
    found = [ids.get(name, _as_id(name, len(labels))) for name in classes]
    unknown = [number for number, class_id in enumerate(found) if class_id is None]
    if unknown:
        named = ", ".join(repr(classes[number][:128]) for number in unknown)
        raise InvalidParameters(
            f"the model has no class {named}; its labels are: {_listed(labels)}",
            violations=[Violation(f"classes[{number}]", "not a class of the model") for number in unknown],
        )
    return frozenset(class_id for class_id in found if class_id is not None)


def map_corners(corners: Floats, affine: Affine) -> Floats:
    """The upright rectangles (N, 4) around the images of upright rectangles (N, 4) under the map."""
    left, top, right, bottom = corners.T
    points = np.stack([left, top, right, top, left, bottom, right, bottom], axis=1).reshape(-1, 2)
    mapped = affine.apply(points).reshape(-1, 4, 2)
    return np.concatenate([mapped.min(axis=1), mapped.max(axis=1)], axis=1)


def suppress(boxes: Boxes, threshold: float, *, at_most: int) -> Integers:
    """The indices of the boxes that stay, in order: each drops the later ones of its class that overlap it by
    more than `threshold` (intersection over union). `boxes` are strongest first and have an area.

    Greedy, a block at a time: within a block one after the other, then all that stay against all that follow.
    """
    left = np.arange(len(boxes))
    kept: list[Integers] = []
    room = at_most
    while len(left) and room > 0:
        block, left = left[:_BLOCK], left[_BLOCK:]
        staying = block[_survivors(_overlapping(boxes, block, block, threshold))][:room]
        kept.append(staying)
        room -= len(staying)
        if len(left) and room > 0:
            left = left[~_overlapping(boxes, staying, left, threshold).any(axis=0)]
    return np.concatenate([np.empty(0, np.int64), *kept])


def _survivors(overlapping: Booleans) -> Booleans:
    """Which of N boxes, strongest first, stay, by who overlaps whom (N, N)."""
    alive = np.ones(len(overlapping), np.bool_)
    for number, rivals in enumerate(overlapping):
        if alive[number]:
            alive[number + 1 :] &= ~rivals[number + 1 :]
    return alive


def _overlapping(boxes: Boxes, some: Integers, others: Integers, threshold: float) -> Booleans:
    """(len(some), len(others)): of one class, and intersection over union above the threshold."""
    left, top, right, bottom = (column[some, None] for column in boxes.corners.T)
    left2, top2, right2, bottom2 = (column[others] for column in boxes.corners.T)
    across = np.minimum(right, right2) - np.maximum(left, left2)
    down = np.minimum(bottom, bottom2) - np.maximum(top, top2)
    shared = np.maximum(across, 0.0) * np.maximum(down, 0.0)
    areas = (right - left) * (bottom - top) + (right2 - left2) * (bottom2 - top2)
    same = boxes.class_ids[some, None] == boxes.class_ids[others]
    return cast(Booleans, same & (shared > threshold * (areas - shared)))


def _checked(output: npt.NDArray[np.float32], *, classes: int) -> npt.NDArray[np.float32]:
    """`[4 + classes, anchors]`."""
    if output.ndim != 3 or output.shape[0] != 1 or output.shape[1] != 4 + classes:
        raise ImageFlowError(f"the model answered shape {output.shape}, not (1, {4 + classes}, anchors)")
    columns: npt.NDArray[np.float32] = output[0]
    return columns


def _candidates(columns: npt.NDArray[np.float32], threshold: float, wanted: frozenset[int]) -> Boxes:
    """The columns that count, strongest first, at most MAX_CANDIDATES, corners in network pixels."""
    scores = columns[4:]
    best = np.fmax.reduce(scores, axis=0)
    which = np.flatnonzero(best >= threshold)
    chosen = columns[:, which].astype(np.float64)
    usable = np.isfinite(chosen).all(axis=0)
    chosen = chosen[:, usable]
    class_ids = chosen[4:].argmax(axis=0)
    if wanted:
        among = np.isin(class_ids, list(wanted))
        chosen, class_ids = chosen[:, among], class_ids[among]
    certain = np.minimum(chosen[4:].max(axis=0), 1.0)
    order = np.argsort(-certain, kind="stable")[:MAX_CANDIDATES]
    centre, half = chosen[:2, order], chosen[2:4, order] / 2
    return Boxes(np.concatenate([centre - half, centre + half]).T, certain[order], class_ids[order])


def _clipped(boxes: Boxes, to_pixels: Affine, *, width: int, height: int) -> Boxes:
    """In the pixels of the picture, without the boxes of which nothing is left there."""
    proper = boxes.take(_have_area(boxes.corners))
    limits = np.array([width, height, width, height], np.float64)
    corners = np.clip(map_corners(proper.corners, to_pixels), 0.0, limits)
    return Boxes(corners, proper.scores, proper.class_ids).take(_have_area(corners))


def _have_area(corners: Floats) -> Booleans:
    left, top, right, bottom = corners.T
    return cast(Booleans, (right > left) & (bottom > top))


def _as_id(text: str, classes: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        return None
    return int(text) if int(text) < classes else None


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _MOST_LABELS_IN_A_MESSAGE
    return ", ".join(labels[:_MOST_LABELS_IN_A_MESSAGE]) + (f" and {more} more" if more > 0 else "")
