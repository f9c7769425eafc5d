"""What detect finds is where it is in the picture that the caller sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from . import pictures
from .product import TREE

if TYPE_CHECKING:
    from .callers import Callers

Box = dict[str, float]


def labels(scale: int) -> list[Box]:
    """The coins as people drew them, before any training."""
    boxes = json.loads((TREE / "models/coins/training/labels.json").read_text())["boxes"]
    return [{side: value * scale for side, value in box.items()} for box in boxes]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    wide = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
    high = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
    both = max(0.0, wide) * max(0.0, high)
    return both / (a["width"] * a["height"] + b["width"] * b["height"] - both)


def matches(found: list[Box], real: list[Box]) -> int:
    """How many pair up, each with one other, at an overlap of 0.5."""
    overlaps = np.array([[overlap(a, b) for b in real] for a in found])
    count = 0
    while overlaps.size and overlaps.max() >= 0.5:
        row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
        overlaps[row, :] = overlaps[:, column] = 0
        count += 1
    return count


def inspect(callers: Callers, image: bytes, steps: list[dict[str, Any]]) -> dict[str, Any]:
    callers.http.put("/v1/images/detections/coins.png", content=image, headers={"content-type": "image/png"})
    definition = {"pipelineId": "detections", "steps": steps}
    answer = callers.post("/v1/pipelines:execute", {"pipeline": definition, "inputPath": "detections/coins.png"}).json()
    assert answer["status"] == "COMPLETED", answer
    metadata: dict[str, Any] = answer["results"]["detect"]["metadata"]
    return metadata


DETECT = {"stepId": "detect", "componentName": "detect", "parameters": {"modelName": "coins"}}
FIT = {"stepId": "fit", "componentName": "resize", "parameters": {"width": 800, "height": 600}}


@pytest.mark.parametrize(
    ("scale", "steps"),
    [(1, [DETECT]), (4, [FIT, {**DETECT, "dependencies": ["fit"]}])],
    ids=["native size", "four times, resized by the pipeline"],
)
def test_coins_are_found_where_they_are_in_the_input(callers: Callers, scale: int, steps: list[dict[str, Any]]) -> None:
    metadata = inspect(callers, pictures.coins(scale), steps)
    found = [each["inputBox"] for each in metadata["detections"]]
    assert {each["label"] for each in metadata["detections"]} == {"coin"}
    real = labels(scale)
    hits = matches(found, real)
    assert hits / len(found) >= 0.8
    assert hits / len(real) >= 0.8


def test_a_box_is_told_in_the_steps_own_pixels_too(callers: Callers) -> None:
    metadata = inspect(callers, pictures.coins(4), [FIT, {**DETECT, "dependencies": ["fit"]}])
    shrunk = 384 * 4 / metadata_width(metadata)
    for each in metadata["detections"]:
        assert each["inputBox"]["width"] == pytest.approx(each["box"]["width"] * shrunk, rel=0.01)


def metadata_width(metadata: dict[str, Any]) -> float:
    """The width of 4 × coins() after it was fitted into 800 × 600: its height decides."""
    return min(800.0, 600.0 * 384 / 303) if metadata["detections"] else 0.0


def test_a_raw_answer_carries_its_detections_in_a_header(callers: Callers) -> None:
    response = callers.process_http(pictures.coins(), "image/png", "detect", set="modelName=coins")
    detections = json.loads(response.headers["imageflow-detections"])
    assert int(response.headers["imageflow-detection-count"]) >= len(detections) > 15
    assert set(detections[0]) == {"stepId", "label", "confidence", "box", "inputBox"}
