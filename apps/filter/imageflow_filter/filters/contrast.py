"""Contrast."""

from __future__ import annotations

import numpy as np

from imageflow_common.pixels import PixelArray
from imageflow_filter.filters.filter import Filter
from imageflow_filter.filters.values import on_colour, on_levels


def contrast(array: PixelArray, intensity: float) -> PixelArray:
    """Multiplies the distance of every value from middle grey by 1 + `intensity`. Integers are kept in range,
    as by `skimage.exposure.rescale_intensity`; floats may leave 0…1."""
    if intensity == 0:
        return array
    gain = np.float32(1 + intensity)
    half = np.float32(0.5)
    return on_levels(array, lambda values: (values - half) * gain + half)


FILTER = Filter(
    name="contrast",
    apply=on_colour(contrast),
    summary="Raises or lowers the contrast about middle grey.",
    intensity_meaning="the change: 0 changes nothing, 1 doubles the contrast, -1 leaves grey",
    minimum=-1.0,
    maximum=10.0,
)
