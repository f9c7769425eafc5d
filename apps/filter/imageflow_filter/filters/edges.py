"""Edges."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from imageflow_common.pixels import PixelArray
from imageflow_filter.filters.filter import Filter
from imageflow_filter.filters.values import in_bands, on_colour, to_dtype


def edges(array: PixelArray, intensity: float) -> PixelArray:
    """The Sobel magnitude of each channel by itself, times `intensity`: √((x² + y²) / 2) with weights 1 2 1
    over 4, as `skimage.filters.sobel` has it, so that a step from black to white gives about 0.7 of white.
    Within one level of it; beyond the edge the nearest pixel is repeated."""
    return in_bands(array, partial(_sobel, gain=intensity))


def _sobel(block: PixelArray, *, gain: float) -> PixelArray:
    values: npt.NDArray[Any] = block.astype(np.int16 if block.dtype == np.uint8 else np.float32)
    down = values[:-2] + 2 * values[1:-1] + values[2:]
    across = values[:, :-2] + 2 * values[:, 1:-1] + values[:, 2:]
    x = (down[:, 2:] - down[:, :-2]).astype(np.float32)
    y = (across[2:] - across[:-2]).astype(np.float32)
    x *= x
    y *= y
    x += y
    np.sqrt(x, out=x)
    x *= np.float32(gain / (4 * math.sqrt(2)))
    return to_dtype(x, block.dtype)


FILTER = Filter(
    name="edges",
    apply=on_colour(edges),
    summary="Shows edges, by the magnitude of the Sobel gradient.",
    intensity_meaning="factor on the magnitude; 0 is black",
    minimum=0.0,
    maximum=100.0,
)
