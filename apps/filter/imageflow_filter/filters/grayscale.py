"""Grayscale."""

from __future__ import annotations

from typing import cast

import numpy as np

from imageflow_common.pixels import PixelArray
from imageflow_filter.filters.filter import Filter
from imageflow_filter.filters.values import on_colour, to_dtype

_LUMA = np.array([0.2125, 0.7154, 0.0721], np.float32)
"""Rec. 709 primaries with the D65 white, as `skimage.color.rgb2gray` has them."""


def grayscale(array: PixelArray, intensity: float) -> PixelArray:
    """Moves every colour by `intensity` of the way to its luma, in sRGB values; three equal channels at 1.
    Grey images stay as they are. Within one level of `skimage.color.rgb2gray` at 1."""
    if intensity == 0 or array.shape[2] < 3:
        return array
    luma = (array @ _LUMA)[:, :, None]
    if intensity == 1:
        return cast(PixelArray, np.repeat(to_dtype(luma, array.dtype), 3, axis=2))
    result = array * np.float32(1 - intensity)
    result += luma * np.float32(intensity)
    return to_dtype(result, array.dtype)


FILTER = Filter(
    name="grayscale",
    apply=on_colour(grayscale),
    summary="Takes the colour away.",
    intensity_meaning="how much: 0 changes nothing, 1 leaves grey",
    minimum=0.0,
    maximum=1.0,
)
