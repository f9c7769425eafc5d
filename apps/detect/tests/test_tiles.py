from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, transform

from imageflow_common.errors import InvalidParameters
from imageflow_common.pixels import Affine, Pixels
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.boxes import Boxes, clip, have_sides
from imageflow_detect.detect import Detector, Question, Tiling
from imageflow_detect.models import ModelRepository
from imageflow_detect.suppress import overlap
from imageflow_detect.tiles import Tile, merge, tiles_of
from imageflow_detect.toy_models import columns, place


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(200, 1000), st.floats(0, 0.9))
def test_tiles_cover_the_picture_and_overlap_as_asked(width: int, height: int, size: int, share: float) -> None:
    try:
        tiles = tiles_of(width, height, size=size, overlap=share)
    except InvalidParameters:
        return
    for axis, length in ((0, width), (1, height)):
        starts = sorted({tile.corners[axis] for tile in tiles})
        side = min(size, length)
        assert starts[0] == 0
        assert starts[-1] + side == length
        assert all(after - before <= max(1, size * (1 - share)) for before, after in pairwise(starts))
    assert all(tile.x >= 0 and tile.corners[2] <= width and tile.y >= 0 and tile.corners[3] <= height for tile in tiles)


def test_a_picture_that_fits_is_one_tile() -> None:
    assert tiles_of(640, 300, size=640, overlap=0.2) == (Tile(0, 0, 640, 300),)


def test_too_many_tiles_are_refused() -> None:
    with pytest.raises(InvalidParameters, match=r"9,801 tiles of 100; at most 400") as caught:
        tiles_of(9900, 9900, size=100, overlap=0.0)
    assert [fault.field for fault in caught.value.violations] == ["tileSize"]


def seen_in_tiles(
    objects: Boxes, width: int, height: int, *, noise: float = 0.0, seed: int = 0
) -> list[tuple[Tile, Boxes]]:
    """What a network that sees each tile's part of every object, to within `noise` pixels, would answer."""
    random = np.random.default_rng(seed)
    found = []
    for tile in tiles_of(width, height, size=200, overlap=0.25):
        corner = np.array([tile.x, tile.y, tile.x, tile.y], np.float64)
        parts = clip(objects.corners - corner, width=tile.width, height=tile.height)
        parts = clip(parts + random.uniform(-noise, noise, parts.shape), width=tile.width, height=tile.height)
        seen = objects.at(parts + corner).take(have_sides(parts, 8.0))
        found.append((tile, seen))
    return found


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.5]))
def test_objects_over_seams_are_found_once_and_whole(seed: int, noise: float) -> None:
    """Objects from a twentieth of a tile to two and a half tiles, side by side, wherever the seams are."""
    random = np.random.default_rng(seed)
    width, height = 900, 700
    corners = []
    for _ in range(40):
        start, sides = (
            random.uniform(0, [width - 30, height - 30]),
            random.uniform(20, 500, 2) ** random.uniform(0.5, 1),
        )
        box = np.array([*start, *np.minimum(start + np.maximum(sides, 20), [width, height])])
        if all(overlap(box[None], other[None])[0, 0] == 0 for other in corners):
            corners.append(box)
    scores = np.sort(random.uniform(0.5, 1, len(corners)))[::-1]
    objects = Boxes(np.array(corners), scores, random.integers(0, 3, len(corners)))
    merged = merge(
        seen_in_tiles(objects, width, height, noise=noise, seed=seed),
        width=width,
        height=height,
        threshold=0.4,
        at_most=300,
    )
    assert merged.class_ids.tolist() == objects.class_ids.tolist()
    np.testing.assert_allclose(merged.corners, objects.corners, atol=0.001 + 2 * noise)
    np.testing.assert_allclose(merged.scores, objects.scores)


def test_neighbours_over_a_seam_stay_two() -> None:
    objects = Boxes(
        np.array([[120, 40, 178, 100], [180, 40, 240, 100]], np.float64), np.array([0.9, 0.8]), np.zeros(2, np.int64)
    )
    merged = merge(seen_in_tiles(objects, 350, 200), width=350, height=200, threshold=0.4, at_most=300)
    np.testing.assert_allclose(merged.corners, objects.corners)


def test_boxes_of_two_classes_are_one_object_only_when_asked() -> None:
    tiles = tiles_of(350, 200, size=200, overlap=0.25)
    box = np.array([[155, 40, 195, 80]], np.float64)
    found = [(tile, Boxes(box, np.array([0.9 - n / 10]), np.array([n]))) for n, tile in enumerate(tiles)]
    options = {"width": 350, "height": 200, "threshold": 0.4, "at_most": 300}
    assert merge(found, **options).class_ids.tolist() == [0, 1]
    assert merge(found, **options, class_agnostic=True).class_ids.tolist() == [0]


def test_a_large_picture_is_looked_at_in_tiles(tmp_path: Path) -> None:
    """The model sees a dog in the middle of whatever it is shown: in nine tiles there are nine."""
    place(tmp_path, "toy", columns((32, 32, 8, 8, 1, 0.9)))
    detector = Detector(ModelRepository(tmp_path), OnnxBackend())
    pixels = Pixels(np.zeros((300, 300, 3), np.uint8), Affine(2, 0, 10, 0, 2, 20))
    done = detector.detect(pixels, Question("toy", tiling=Tiling(100, 0.0)))
    assert sorted((each.box.x, each.box.y) for each in done.found) == [
        pytest.approx((100 * x + 43.75, 100 * y + 43.75)) for x in range(3) for y in range(3)
    ]
    assert {each.box.width for each in done.found} == {12.5}
    assert min(each.input_box.x for each in done.found) == pytest.approx(2 * 43.75 + 10)
    assert len(detector.detect(pixels, Question("toy")).found) == 1


@pytest.mark.parametrize("size", [450, 640])
def test_the_coins_of_a_large_photograph_are_found_once_each(size: int) -> None:
    """Four times as large as it is, 1536×1212: the model's own labels, whatever tile a coin lies in or across."""
    models = Path(__file__).resolve().parents[3] / "models"
    boxes = json.loads((models / "coins" / "training" / "labels.json").read_text())["boxes"]
    labels = 4 * np.array([[b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]] for b in boxes])
    photograph = transform.resize(data.coins(), (1212, 1536), order=1)
    pixels = Pixels((photograph[..., None] * 255).astype(np.uint8))
    detector = Detector(ModelRepository(models), OnnxBackend())
    found = detector.detect(pixels, Question("coins", tiling=Tiling(size, 0.3), confidence_threshold=0.7)).found
    corners = np.array([[b.x, b.y, b.x + b.width, b.y + b.height] for b in (each.box for each in found)])
    overlaps = overlap(labels, corners)
    assert (overlaps.max(axis=1) > 0.7).all()
    assert len(found) == len(labels)
