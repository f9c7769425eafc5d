"""Median."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from imageflow_common.images.vips import array_as_vips, from_vips
from imageflow_common.pixels import PixelArray
from imageflow_filter.filters.filter import Filter
from imageflow_filter.filters.values import in_bands, on_colour

_NETWORK: Final = (
    (1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3),
    (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2),
)  # fmt: skip
"""Exchanges that bring the median of nine to the fifth place (J. L. Smith, 1996; N. Devillard,
`opt_med9`)."""


def median(array: PixelArray, intensity: float) -> PixelArray:
    """The median of a square of (2r + 1)² pixels, r being `intensity` rounded half up; each channel by
    itself.

    Exact for every dtype; beyond the edge the nearest pixel is repeated. r = 1 by exchanges, larger by
    libvips, whose histogram serves uint8 only: the others cost about r² · 30 ns a value."""
    radius = math.floor(intensity + 0.5)
    if radius == 0:
        return array
    if radius == 1:
        return in_bands(array, _median_of_nine)
    margin = ((radius, radius), (radius, radius), (0, 0))
    padded = np.pad(array, margin, mode="edge")  # libvips refuses a window that is larger than the image
    ranked = array_as_vips(padded).median(2 * radius + 1)
    return from_vips(ranked.crop(radius, radius, array.shape[1], array.shape[0]))


def _median_of_nine(block: PixelArray) -> PixelArray:
    height, width = block.shape[0] - 2, block.shape[1] - 2
    values = [block[y : y + height, x : x + width].copy() for y in range(3) for x in range(3)]
    spare = np.empty_like(values[0])
    for low, high in _NETWORK:
        np.minimum(values[low], values[high], out=spare)
        np.maximum(values[low], values[high], out=values[high])
        values[low], spare = spare, values[low]
    return values[4]


FILTER = Filter(
    name="median",
    apply=on_colour(median),
    summary="Takes the median of each pixel's surroundings: removes specks and keeps edges.",
    intensity_meaning="radius of the square in pixels, rounded to a whole number; 0 changes nothing",
    minimum=0.0,
    maximum=5.0,
)
