from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from imageflow_common.errors import ImageFlowError, InvalidParameters
from imageflow_common.pixels import IDENTITY, Affine
from imageflow_detect.boxes import Boxes, map_corners
from imageflow_detect.decode import Wanted, class_ids_of, decode
from imageflow_detect.layouts import MAX_CANDIDATES, candidates
from imageflow_detect.manifest import ModelInvalid
from imageflow_detect.toy_models import columns, manifest_of


def read(output: np.ndarray, **changes: Any) -> Boxes:
    return decode(
        [output], manifest=manifest_of(), to_pixels=IDENTITY, width=64, height=64, wanted=replace(Wanted(), **changes)
    )


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


def test_a_small_box_is_dropped_and_drops_no_other() -> None:
    output = columns((30, 30, 8, 20, 0, 0.9), (30, 30, 10, 20, 0, 0.8), (1, 10, 10, 20, 0, 0.7))
    assert read(output, min_box_size=10).scores.tolist() == pytest.approx([0.8])
    assert len(read(output, min_box_size=5)) == 2


def test_boxes_are_compared_before_they_are_clipped() -> None:
    """Most of both lies outside, where they differ; inside they are the same."""
    output = columns((0, 10, 10, 10, 0, 0.9), (-10, 10, 30, 10, 0, 0.8))
    assert read(output).corners.tolist() == [[0, 5, 5, 15], [0, 5, 5, 15]]


def test_boxes_of_two_classes_suppress_each_other_when_asked() -> None:
    output = columns((10, 10, 8, 8, 0, 0.9), (10, 10, 8, 8, 1, 0.8))
    assert read(output, class_agnostic=True).class_ids.tolist() == [0]


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


def test_an_answer_without_a_number_is_a_failure() -> None:
    with pytest.raises(ImageFlowError, match="only NaN") as caught:
        read(np.full((1, 6, 100), np.nan, np.float32))
    assert caught.value.reason == "INFERENCE_FAILED"


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
    output = random.uniform(0, 64, (1, 6, 2 * MAX_CANDIDATES)).astype(np.float32)
    found = candidates([output], manifest_of(), threshold=0.0)
    assert len(found) == MAX_CANDIDATES
    assert found.scores[-1] >= np.median(output[0, 4:].max(axis=0).clip(max=1.0))


@pytest.mark.parametrize("shape", [(1, 7, 10), (2, 6, 10), (6, 10), (1, 6, 10, 1)])
def test_an_output_of_another_shape_is_our_fault(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelInvalid, match=r"not \[1, 6, \?\]"):
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
