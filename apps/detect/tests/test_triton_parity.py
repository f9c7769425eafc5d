"""The same photograph gives the same boxes on Triton as on ONNX Runtime in the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from backends.triton import Triton
from imageflow_common.pixels import Pixels
from imageflow_detect.backend import Backend, OnnxBackend
from imageflow_detect.detect import Detector, Found, Question
from imageflow_detect.models import ModelRepository
from imageflow_detect.triton import TritonBackend, TritonOptions

IMAGES = 60


def photographs() -> Iterator[Pixels]:
    """Parts of the photograph of coins: turned, mirrored, darker and lighter, noisy."""
    coins = data.coins()[:, :, None]
    random = np.random.default_rng(20)
    for number in range(IMAGES):
        height, width = random.integers(200, coins.shape[0] + 1), random.integers(250, coins.shape[1] + 1)
        top, left = (
            random.integers(0, whole - part + 1) for whole, part in zip(coins.shape[:2], (height, width), strict=True)
        )
        part = np.rot90(coins[top : top + height, left : left + width], number % 4)
        part = part[:, ::-1] if number % 8 > 3 else part
        noisy = part * random.uniform(0.8, 1.2) + random.normal(0, 3, part.shape)
        yield Pixels(np.ascontiguousarray(np.clip(noisy, 0, 255).astype(np.uint8)))


def overlap(one: Found, other: Found) -> float:
    a, b = one.box, other.box
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    shared = max(0.0, width) * max(0.0, height)
    return shared / (a.width * a.height + b.width * b.height - shared)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_sixty_photographs_give_the_same_boxes(triton: Triton, served_models: Path, shared_memory: bool) -> None:
    with (
        closing(OnnxBackend()) as local,
        closing(TritonBackend(TritonOptions(triton.url, shared_memory=shared_memory))) as remote,
    ):

        def found(backend: Backend, pixels: Pixels) -> tuple[Found, ...]:
            return Detector(ModelRepository(served_models), backend).detect(pixels, Question("coins")).found

        for pixels in photographs():
            here, there = found(local, pixels), found(remote, pixels)
            assert len(here) == len(there) >= 1
            for one, other in zip(here, there, strict=True):
                assert one.label == other.label
                assert overlap(one, other) >= 0.99
                assert abs(one.confidence - other.confidence) <= 1e-3
