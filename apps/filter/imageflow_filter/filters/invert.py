"""Inversion."""

from __future__ import annotations

from typing import cast

import numpy as np

from imageflow_common.pixels import PixelArray
from imageflow_filter.filters.filter import Filter
from imageflow_filter.filters.values import full_scale, on_colour, on_levels


def invert(array: PixelArray, intensity: float) -> PixelArray:
    """Moves every value by `intensity` of the way to its negative, white − value; at 1 exactly
    `skimage.util.invert`, at 0.5 all grey."""
    if intensity == 0:
        return array
    if intensity == 1:
        return cast(PixelArray, array.dtype.type(full_scale(array.dtype)) - array)
    slope, start = np.float32(1 - 2 * intensity), np.float32(intensity)
    return on_levels(array, lambda values: values * slope + start)


FILTER = Filter(
    name="invert",
    apply=on_colour(invert),
    summary="Turns the image into its negative.",
    intensity_meaning="how much: 0 changes nothing, 1 is the full negative",
    minimum=0.0,
    maximum=1.0,
)
