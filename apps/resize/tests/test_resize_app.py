"""The resize component as it is served."""

from __future__ import annotations

import numpy as np
import pytest

from imageflow.v1.resize_pb2 import ResizeParameters
from imageflow_common.errors import InvalidParameters
from imageflow_common.pixels import Pixels
from imageflow_resize.app import resize


def pixels(width: int, height: int) -> Pixels:
    return Pixels(np.zeros((height, width, 3), np.uint8))


def test_a_target_beyond_all_bounds_is_refused_before_any_memory_is_taken() -> None:
    wanted = ResizeParameters(width=32_768, height=32_768, fit="fill", gravity="center", kernel="cubic")
    with pytest.raises(InvalidParameters, match="32768×32768"):
        resize(pixels(10, 10), parameters=wanted)


def test_metadata_says_what_came_in_and_what_went_out() -> None:
    result = resize(pixels(1600, 900), parameters=resize.parameters())
    assert (result.metadata.input_width, result.metadata.input_height) == (1600, 900)
    assert (result.metadata.output_width, result.metadata.output_height) == (800, 450)
