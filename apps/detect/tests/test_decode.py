from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageflow_common.errors import ImageFlowError, InvalidParameters
from imageflow_common.pixels import IDENTITY, Affine
from imageflow_detect.decode import MAX_CANDIDATES, Boxes, class_ids_of, decode, map_corners, suppress
from imageflow_detect.toy_models import columns


def read(output: np.ndarray, **changes: object) -> Boxes:
    options: dict[str, object] = {
        "labels": ("cat", "dog"),
        "to_pixels": IDENTITY,
        "width": 64,
        "height": 64,
        "confidence_threshold": 0.5,
        "nms_threshold": 0.4,
        "max_detections": 300,
    }
    return decode(output, **(options | changes))  # type: ignore[arg-type]  # a table of options


def naive_nms(boxes: Boxes, threshold: float) -> list[int]:
    def overlap(one: np.ndarray, other: np.ndarray) -> float:
        width = min(one[2], other[2]) - max(one[0], other[0])
        height = min(one[3], other[3]) - max(one[1], other[1])
        shared = max(width, 0.0) * max(height, 0.0)
        area = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
        return float(shared / (area - shared))

    kept: list[int] = []
    for number in range(len(boxes)):
        rivals = [each for each in kept if boxes.class_ids[each] == boxes.class_ids[number]]
        if all(overlap(boxes.corners[number], boxes.corners[each]) <= threshold for each in rivals):
            kept.append(number)
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 200), st.floats(0.01, 1), st.integers(1, 3), st.integers(1, 250))
def test_suppression_agrees_with_the_naive_one(
    seed: int, number: int, threshold: float, classes: int, most: int
) -> None:
    random = np.random.default_rng(seed)
    start = random.uniform(0, 60, (number, 2))
    corners = np.concatenate([start, start + random.uniform(1, 40, (number, 2))], axis=1)
    boxes = Boxes(corners, np.sort(random.uniform(0, 1, number))[::-1], random.integers(0, classes, number))
    assert suppress(boxes, threshold, at_most=most).tolist() == naive_nms(boxes, threshold)[:most]


def test_boxes_come_strongest_first_with_corners_from_centres() -> None:
    found = read(columns((10, 10, 4, 6, 0, 0.6), (40, 40, 10, 10, 1, 0.9)))
    assert found.corners.tolist() == [[35, 35, 45, 45], [8, 7, 12, 13]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.class_ids.tolist() == [1, 0]


def test_equal_scores_keep_the_networks_order() -> None:
    found = read(columns(*[(4 + 10 * n, 10, 6, 6, n % 2, 0.75) for n in range(6)]))
    assert found.corners[:, 0].tolist() == [1, 11, 21, 31, 41, 51]


def test_the_threshold_itself_counts() -> None:
    assert len(read(columns((10, 10, 4, 4, 0, 0.5), (30, 30, 4, 4, 0, 0.49999)))) == 1


def test_boxes_of_two_classes_do_not_suppress_each_other() -> None:
    assert len(read(columns((10, 10, 8, 8, 0, 0.9), (10, 10, 8, 8, 1, 0.8), (10, 10, 8, 8, 1, 0.7)))) == 2


def test_at_most_so_many_are_found() -> None:
    boxes = [(4 + 10 * n, 10, 6, 6, 0, 0.6 + n / 100) for n in range(6)]
    found = read(columns(*boxes), max_detections=2)
    assert found.corners[:, 0].tolist() == [51, 41]


def test_boxes_are_clipped_and_what_is_outside_is_dropped() -> None:
    found = read(columns((0, 0, 10, 10, 0, 0.9), (200, 200, 10, 10, 0, 0.8), (-5, 20, 10, 10, 0, 0.7)))
    assert found.corners.tolist() == [[0, 0, 5, 5]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", range(6))
def test_a_column_that_is_not_finite_is_dropped_alone(row: int, bad: float) -> None:
    output = columns((10, 10, 8, 8, 0, 0.9), (40, 40, 8, 8, 0, 0.8))
    output[0, row, 0] = bad
    assert 40 in read(output).corners.mean(axis=1)
    assert np.isfinite(read(output).corners).all()


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (-5, 5), (0, 0)])
def test_a_degenerate_box_is_dropped(width: float, height: float) -> None:
    assert len(read(columns((10, 10, width, height, 0, 0.9)))) == 0


def test_scores_never_exceed_one() -> None:
    assert read(columns((10, 10, 8, 8, 0, 3.5))).scores.tolist() == [1.0]


def test_only_the_classes_asked_for_are_found() -> None:
    output = columns((10, 10, 8, 8, 0, 0.9), (40, 40, 8, 8, 1, 0.8))
    assert read(output, class_ids=frozenset({1})).class_ids.tolist() == [1]


def test_a_picture_of_noise_is_bounded() -> None:
    random = np.random.default_rng(0)
    output = random.uniform(0, 64, (1, 6, 3 * MAX_CANDIDATES)).astype(np.float32)
    output[0, 2:4] = 0.01
    assert len(read(output, max_detections=10**6, nms_threshold=1.0)) <= MAX_CANDIDATES


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_what_is_found_lies_inside_and_overlaps_no_more_than_allowed(seed: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    output = random.uniform(-10, 80, (1, 6, 120)).astype(np.float32)
    output[0, 4:] = random.uniform(0, 1, (2, 120))
    found = read(output, nms_threshold=threshold, width=50, height=40, to_pixels=Affine(0.9, 0, -3, 0, 0.8, 2))
    assert naive_nms(found, threshold) == list(range(len(found)))
    assert (found.corners >= 0).all()
    assert (found.corners <= [50, 40, 50, 40]).all()
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("shape", [(1, 7, 10), (2, 6, 10), (6, 10), (1, 6, 10, 1)])
def test_an_output_of_another_shape_is_our_fault(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageFlowError, match=r"not \(1, 6, anchors\)"):
        read(np.zeros(shape, np.float32))


def test_classes_are_named_by_label_or_by_id() -> None:
    assert class_ids_of(["dog", "0"], ("cat", "dog", "7")) == {0, 1}
    assert class_ids_of(["7"], ("cat", "dog", "7")) == {2}
    assert class_ids_of([], ("cat",)) == frozenset()


@pytest.mark.parametrize("name", ["cow", "2", "-1", "", "²", "9" * 40])
def test_an_unknown_class_is_answered_with_the_labels(name: str) -> None:
    with pytest.raises(InvalidParameters, match="its labels are: cat, dog") as caught:
        class_ids_of(["cat", name], ("cat", "dog"))
    assert [fault.field for fault in caught.value.violations] == ["classes[1]"]


def test_a_turned_box_has_its_upright_rectangle() -> None:
    quarter_turn = Affine(0, -1, 100, 1, 0, 0)
    assert map_corners(np.array([[10.0, 20, 30, 50]]), quarter_turn).tolist() == [[50, 10, 80, 30]]
