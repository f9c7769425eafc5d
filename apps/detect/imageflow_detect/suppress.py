"""Of boxes that mean one object, the strongest: greedy non-maximum suppression (Felzenszwalb et al., "Object Detection
with Discriminatively Trained Part-Based Models", 2010, section 4.5), as YOLO's and SSD's authors run it."""

from __future__ import annotations

from typing import Final

import numpy as np

from imageflow_detect.boxes import Booleans, Boxes, Floats, Integers

_BLOCK: Final = 64
_PAIR_COSTS: Final = 8
"""What comparing one pair by itself costs, in comparisons of all with all."""


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
    return _intersection_over_union(_columns(some)[:, :, None], _columns(others)[:, None, :])


def _columns(corners: Floats) -> Floats:
    """Each in one piece, which is read faster."""
    return np.ascontiguousarray(corners.T)


def _intersection_over_union(some: Floats, others: Floats) -> Floats:
    """Of rectangles as columns (4, …), of shapes that go together."""
    shared = _common_span(some, others, 0)
    shared *= _common_span(some, others, 1)
    union = _areas(some) + _areas(others)
    union -= shared
    shared /= union
    return shared


def _common_span(some: Floats, others: Floats, axis: int) -> Floats:
    """How long the common part is across (0) or down (1); 0 where there is none."""
    span: Floats = np.minimum(some[axis + 2], others[axis + 2])
    span -= np.maximum(some[axis], others[axis])
    return np.maximum(span, 0.0, out=span)


def _areas(columns: Floats) -> Floats:
    areas: Floats = (columns[2] - columns[0]) * (columns[3] - columns[1])
    return areas


def _survivors(overlapping: Booleans) -> Booleans:
    """Which of N boxes, strongest first, stay, by who overlaps whom (N, N)."""
    alive = np.ones(len(overlapping), np.bool_)
    weaker = np.triu(overlapping, 1)
    for number in np.flatnonzero(weaker.any(axis=1)):
        if alive[number]:
            alive &= ~weaker[number]
    return alive


def _overlapping(corners: Floats, class_ids: Integers, some: Integers, others: Integers, threshold: float) -> Booleans:
    """(len(some), len(others)): of one class, and overlapping by more than the threshold."""
    same: Booleans = class_ids[some, None] == class_ids[others]
    if np.count_nonzero(same) * _PAIR_COSTS > same.size:
        return same & (overlap(corners[some], corners[others]) > threshold)
    rows, columns = np.nonzero(same)
    ones, more = _columns(corners[some[rows]]), _columns(corners[others[columns]])
    same[rows, columns] = _intersection_over_union(ones, more) > threshold
    return same
