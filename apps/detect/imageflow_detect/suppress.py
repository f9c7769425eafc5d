"""Of boxes that mean one object, the strongest: greedy non-maximum suppression (Felzenszwalb et al., "Object Detection
with Discriminatively Trained Part-Based Models", 2010, section 4.5), as YOLO's and SSD's authors run it."""

from __future__ import annotations

from typing import Final, cast

import numpy as np

from imageflow_detect.boxes import Booleans, Boxes, Floats, Integers

_BLOCK: Final = 64


def suppress(boxes: Boxes, threshold: float, *, at_most: int, class_agnostic: bool = False) -> Integers:
    """The indices of the boxes that stay, in order: each drops the later ones of its class, or of any class, that
    overlap it by more than `threshold` (intersection over union). `boxes` are strongest first and have an area.

    Greedy, a block at a time: within a block one after the other, then all that stay against all that follow.
    """
    class_ids = np.zeros_like(boxes.class_ids) if class_agnostic else boxes.class_ids
    left = np.arange(len(boxes))
    kept: list[Integers] = []
    room = at_most
    while len(left) and room > 0:
        block, left = left[:_BLOCK], left[_BLOCK:]
        staying = block[_survivors(_overlapping(boxes.corners, class_ids, block, block, threshold))][:room]
        kept.append(staying)
        room -= len(staying)
        if len(left) and room > 0:
            left = left[~_overlapping(boxes.corners, class_ids, staying, left, threshold).any(axis=0)]
    return np.concatenate([np.empty(0, np.int64), *kept])


def overlap(some: Floats, others: Floats) -> Floats:
    """Intersection over union (len(some), len(others)) of rectangles with an area."""
    left, top, right, bottom = (column[:, None] for column in some.T)
    left2, top2, right2, bottom2 = others.T
    across = np.minimum(right, right2) - np.maximum(left, left2)
    down = np.minimum(bottom, bottom2) - np.maximum(top, top2)
    shared = np.maximum(across, 0.0) * np.maximum(down, 0.0)
    areas = (right - left) * (bottom - top) + (right2 - left2) * (bottom2 - top2)
    return cast(Floats, shared / (areas - shared))


def _survivors(overlapping: Booleans) -> Booleans:
    """Which of N boxes, strongest first, stay, by who overlaps whom (N, N)."""
    alive = np.ones(len(overlapping), np.bool_)
    for number, rivals in enumerate(overlapping):
        if alive[number]:
            alive[number + 1 :] &= ~rivals[number + 1 :]
    return alive


def _overlapping(corners: Floats, class_ids: Integers, some: Integers, others: Integers, threshold: float) -> Booleans:
    """(len(some), len(others)): of one class, and overlapping by more than the threshold."""
    same = class_ids[some, None] == class_ids[others]
    return cast(Booleans, same & (overlap(corners[some], corners[others]) > threshold))
