from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageflow_detect.boxes import Boxes
from imageflow_detect.suppress import suppress


def some_boxes(seed: int, number: int, classes: int, *, whole: bool) -> Boxes:
    """Crowded, strongest first; in whole pixels, as whoever wants many ties and equal overlaps has them."""
    random = np.random.default_rng(seed)
    start, sides = random.uniform(0, 60, (number, 2)), random.uniform(1, 40, (number, 2))
    if whole:
        start, sides = np.rint(start / 4), np.rint(sides / 4) + 1
    scores = np.sort(random.uniform(0.01, 1, number))[::-1]
    return Boxes(np.concatenate([start, start + sides], axis=1), scores, random.integers(0, classes, number))


def opencv(boxes: Boxes, threshold: float, *, agnostic: bool) -> list[int]:
    """OpenCV's suppression, class by class."""
    sides = boxes.corners[:, 2:] - boxes.corners[:, :2]
    rectangles = np.concatenate([boxes.corners[:, :2], sides], axis=1)
    classes = [0] if agnostic else range(int(boxes.class_ids.max(initial=0)) + 1)
    kept: list[int] = []
    for class_id in classes:
        which = np.arange(len(boxes)) if agnostic else np.flatnonzero(boxes.class_ids == class_id)
        found = cv2.dnn.NMSBoxes(rectangles[which].tolist(), boxes.scores[which].tolist(), 0.0, threshold)
        kept += which[np.asarray(found, np.int64).ravel()].tolist()
    return sorted(kept)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 200),
    st.floats(0.01, 0.99),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_suppression_agrees_with_opencv(
    seed: int, number: int, threshold: float, classes: int, whole: bool, agnostic: bool
) -> None:
    boxes = some_boxes(seed, number, classes, whole=whole)
    ours = suppress(boxes, threshold, at_most=1000, class_agnostic=agnostic).tolist()
    assert ours == opencv(boxes, threshold, agnostic=agnostic)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 300), st.integers(1, 150))
def test_a_bound_keeps_the_strongest(seed: int, number: int, most: int) -> None:
    boxes = some_boxes(seed, number, 2, whole=False)
    everything = suppress(boxes, 0.5, at_most=1000).tolist()
    assert suppress(boxes, 0.5, at_most=most).tolist() == everything[:most]


@pytest.mark.parametrize("tenths", range(1, 10))
def test_an_overlap_of_exactly_the_threshold_suppresses_nothing(tenths: int) -> None:
    """Two boxes of 10×10 and 10×`tenths`, one within the other, overlap by tenths/10; anything less suppresses."""
    boxes = Boxes(
        np.array([[0, 0, 10, 10], [0, 0, 10, tenths]], np.float64), np.array([0.9, 0.8]), np.zeros(2, np.int64)
    )
    assert len(suppress(boxes, tenths / 10, at_most=9)) == 2
    assert len(suppress(boxes, np.nextafter(tenths / 10, 0), at_most=9)) == 1


@pytest.mark.parametrize(("threshold", "stay"), [(0.0, [0, 3]), (1.0, [0, 1, 2, 3])])
def test_the_outermost_thresholds_drop_all_that_touch_and_nothing(threshold: float, stay: list[int]) -> None:
    corners = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [9, 9, 20, 20], [20, 20, 30, 30]], np.float64)
    boxes = Boxes(corners, np.array([0.9, 0.8, 0.7, 0.6]), np.zeros(4, np.int64))
    assert suppress(boxes, threshold, at_most=9).tolist() == stay
