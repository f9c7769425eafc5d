"""What a filter is: a function on pixels, and what its one number means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imageflow_common.pixels import PixelArray

Apply = Callable[[PixelArray, float], PixelArray]


@dataclass(frozen=True, slots=True)
class Filter:
    """`apply(array, intensity)` takes H×W×C, C-contiguous, uint8, uint16 or float32, sRGB or grey, and gives
    the same shape and dtype; it never writes to `array`, and may return it where nothing changes. Alpha is
    passed through. `minimum` ≤ `intensity` ≤ `maximum` is the caller's to check."""

    name: str
    apply: Apply
    summary: str
    intensity_meaning: str
    minimum: float
    maximum: float
