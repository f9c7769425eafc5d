from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imageflow_common.errors import InvalidParameters
from imageflow_common.pixels import Affine, Pixels
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.detect import Box, Detector, Question
from imageflow_detect.models import ModelNotFound, ModelRepository
from imageflow_detect.toy_models import columns, place


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    """Whatever its 64×64 input, the model sees a dog at x 16…32, y 24…32 and a cat at 40…48, 40…48."""
    place(tmp_path, "toy", columns((24, 28, 16, 8, 1, 0.9), (44, 44, 8, 8, 0, 0.7)))
    return Detector(ModelRepository(tmp_path), OnnxBackend())


def test_boxes_are_reported_in_the_image_and_in_the_input(detector: Detector) -> None:
    """A 128×64 picture fills 64×32 of the network, 16 rows down; it was cut out at (10, 20) and halved."""
    pixels = Pixels(np.zeros((64, 128, 3), np.uint8), Affine(2, 0, 10, 0, 2, 20))
    result = detector.detect(pixels, Question("toy"))
    dog, cat = result.found
    assert (dog.label, dog.class_id, cat.label, cat.class_id) == ("dog", 1, "cat", 0)
    assert dog.confidence == pytest.approx(0.9)
    assert dog.box == Box(32, 16, 32, 16)
    assert dog.input_box == Box(74, 52, 64, 32)
    assert cat.box == Box(80, 48, 16, 16)
    assert result.inference_ms > 0
    assert (result.model.name, result.model.version) == ("toy", 1)
    assert (result.ran.backend, result.ran.fallback_reason) == ("onnxruntime", "")


def test_parameters_narrow_what_is_found(detector: Detector) -> None:
    pixels = Pixels(np.zeros((64, 64, 1), np.uint16))

    def labels(**options: Any) -> list[str]:
        return [each.label for each in detector.detect(pixels, Question("toy", **options)).found]

    assert labels() == ["dog", "cat"]
    assert labels(confidence_threshold=0.8) == ["dog"]
    assert labels(max_detections=1) == ["dog"]
    assert labels(classes=["cat"]) == ["cat"]
    assert labels(classes=["1"]) == ["dog"]
    assert labels(model_version="1") == ["dog", "cat"]


def test_faults_of_the_caller_are_told_before_anything_runs(detector: Detector) -> None:
    pixels = Pixels(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InvalidParameters, match="cow"):
        detector.detect(pixels, Question("toy", classes=["cow"]))
    with pytest.raises(ModelNotFound, match="there are: toy"):
        detector.detect(pixels, Question("yolo11"))
