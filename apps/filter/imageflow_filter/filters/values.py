"""What the filters share: leaving alpha alone, working through an image in pieces, and getting back to
its dtype."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from imageflow_common.pixels import PixelArray
from imageflow_filter.filters.filter import Apply

Curve = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

_FULL_SCALE: Final = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
_BAND_BYTES: Final = 160_000
"""Rows are taken together up to this many bytes, so that what is computed on the way stays in a core's
cache."""


def full_scale(dtype: np.dtype[Any]) -> float:
    """The value of white."""
    return _FULL_SCALE[dtype.name]


def to_dtype(values: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> PixelArray:
    """The values as `dtype`: integers are rounded and kept in range, floats are left as they are. May reuse
    `values`."""
    if dtype == np.float32:
        return values
    np.rint(values, out=values)
    np.clip(values, 0, full_scale(dtype), out=values)
    return cast(PixelArray, values.astype(dtype))


def on_colour(apply: Apply) -> Apply:
    """`apply` sees the colour channels only; alpha is put back as it was."""

    @wraps(apply)
    def apply_to_colour(array: PixelArray, intensity: float) -> PixelArray:
        if array.shape[2] not in (2, 4):
            return apply(array, intensity)
        result = np.empty_like(array)
        result[:, :, :-1] = apply(cast(PixelArray, np.ascontiguousarray(array[:, :, :-1])), intensity)
        result[:, :, -1] = array[:, :, -1]
        return result

    return apply_to_colour


def on_levels(array: PixelArray, curve: Curve) -> PixelArray:
    """Maps every value by `curve`, which is given in 0…1; integers by a table of all their levels."""
    if array.dtype == np.float32:
        return curve(cast(npt.NDArray[np.float32], array))
    white = full_scale(array.dtype)
    levels = np.arange(white + 1, dtype=np.float32) / np.float32(white)
    table = to_dtype(curve(levels) * np.float32(white), array.dtype)
    return table[cast(npt.NDArray[np.uint8] | npt.NDArray[np.uint16], array)]


def in_bands(array: PixelArray, kernel: Callable[[PixelArray], PixelArray]) -> PixelArray:
    """Applies a 3×3 neighbourhood kernel to a few rows at a time. `kernel` takes (h + 2)×(w + 2)×C and gives
    h×w×C; beyond the edge the nearest pixel is repeated."""
    padded = cast(PixelArray, np.pad(array, ((1, 1), (1, 1), (0, 0)), mode="edge"))
    result = np.empty_like(array)
    rows = max(8, _BAND_BYTES // (array.strides[0] or 1))
    for top in range(0, array.shape[0], rows):
        band = result[top : top + rows]
        band[...] = kernel(padded[top : top + len(band) + 2])
    return result
