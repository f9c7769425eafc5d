"""Noise reduction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imageflow_common.pixels import PixelArray
from imageflow_filter.filters.filter import Filter
from imageflow_filter.filters.values import full_scale, on_colour, to_dtype

STEPS = 5
"""More gain less than 0.1 dB on noisy photographs, and each costs as much as the first
(benchmarks/kernels.py)."""

_STRIP_ROWS = 128
_STEP_SIZE = np.float32(0.25)


def denoise(array: PixelArray, intensity: float) -> PixelArray:
    """Smooths by total variation, each channel by itself: flat parts become flat, edges stay.

    `intensity` is the standard deviation of the noise in hundredths of full scale. Chambolle's projection
    (2004) with a fixed number of steps, in float32: what
    `skimage.restoration.denoise_tv_chambolle(weight=intensity / 100, eps=0, max_num_iter=STEPS + 1)` gives,
    within one level."""
    if intensity == 0:
        return array
    weight = intensity / 100 * full_scale(array.dtype)
    result = np.empty_like(array)
    for channel in range(array.shape[2]):
        for top in range(0, array.shape[0], _STRIP_ROWS):
            _denoise_strip(array[:, :, channel], result[:, :, channel], top, weight)
    return result


def _denoise_strip(plane: npt.NDArray[Any], result: npt.NDArray[Any], top: int, weight: float) -> None:
    """Fills `_STRIP_ROWS` rows of `result`, from `top`. A step reaches one row further, so the strip with a
    margin of as many rows as there are steps gives exactly what the whole plane would, from a core's
    cache."""
    bottom = min(top + _STRIP_ROWS, len(plane))
    above, below = max(0, top - STEPS), min(len(plane), bottom + STEPS)
    smooth = total_variation(plane[above:below].astype(np.float32), weight)
    result[top:bottom] = to_dtype(smooth[top - above : bottom - above], result.dtype)


def total_variation(plane: npt.NDArray[np.float32], weight: float) -> npt.NDArray[np.float32]:
    """Minimises the total variation of `plane` (H×W) plus its squared distance over 2·`weight`,
    approximately."""
    down, across = np.zeros_like(plane), np.zeros_like(plane)
    gradient_down, gradient_across = np.zeros_like(plane), np.zeros_like(plane)
    norm, spare, result = np.empty_like(plane), np.empty_like(plane), plane.copy()
    for _ in range(STEPS):
        np.subtract(result[1:], result[:-1], out=gradient_down[:-1])
        np.subtract(result[:, 1:], result[:, :-1], out=gradient_across[:, :-1])
        np.multiply(gradient_down, gradient_down, out=norm)
        np.multiply(gradient_across, gradient_across, out=spare)
        norm += spare
        np.sqrt(norm, out=norm)
        norm *= _STEP_SIZE / np.float32(weight)
        norm += 1
        np.reciprocal(norm, out=norm)
        for dual, gradient in ((down, gradient_down), (across, gradient_across)):
            np.multiply(gradient, _STEP_SIZE, out=spare)
            dual -= spare
            dual *= norm
        np.subtract(plane, down, out=result)
        result -= across
        result[1:] += down[:-1]
        result[:, 1:] += across[:, :-1]
    return result


FILTER = Filter(
    name="denoise",
    apply=on_colour(denoise),
    summary="Reduces noise and keeps edges, by total variation.",
    intensity_meaning="standard deviation of the noise, in hundredths of full scale; 0 changes nothing",
    minimum=0.0,
    maximum=50.0,
)
