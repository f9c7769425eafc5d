"""Unsharp masking."""

from __future__ import annotations

import numpy as np

from imageflow_common.pixels import PixelArray
from imageflow_filter.filters.filter import Filter
from imageflow_filter.filters.gaussian import blur
from imageflow_filter.filters.values import on_colour, to_dtype

SIGMA_PIXELS = 1.0


def unsharp(array: PixelArray, intensity: float) -> PixelArray:
    """array + intensity · (array − blurred), blurred by a Gaussian of 1 pixel.

    Agrees with `skimage.filters.unsharp_mask` but for the border, which that mirrors: uint8 within
    0.5 + 2.5·intensity of 255 levels on photographs, others by rounding."""
    if intensity == 0:
        return array
    blurred = blur(array, SIGMA_PIXELS)
    result = array.astype(np.float32)
    detail = result - blurred
    detail *= np.float32(intensity)
    result += detail
    return to_dtype(result, array.dtype)


FILTER = Filter(
    name="unsharp",
    apply=on_colour(unsharp),
    summary="Sharpens by adding back what a blur of 1 pixel takes away.",
    intensity_meaning="how much of the detail is added; 0 changes nothing, 1 doubles it",
    minimum=0.0,
    maximum=10.0,
)
