"""The photograph that every pipeline is measured on."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from skimage import data

from imageflow_common.images import array_as_vips, encode, from_vips
from imageflow_common.pixels import Pixels

WIDTH, HEIGHT = 1920, 1080
_NOISE_LEVELS = 4.0
_QUALITY = 85


def coins_jpeg() -> bytes:
    """scikit-image's photograph of coins as a camera would give it: 1920×1080, RGB, with sensor noise of 4 levels, a
    JPEG of quality 85 and some 280 kB. Always the same bytes with the same libraries."""
    grey = cast(npt.NDArray[np.uint8], cast(Any, data).coins())
    colour = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    height, width = grey.shape
    enlarged = from_vips(array_as_vips(colour).resize(WIDTH / width, vscale=HEIGHT / height))
    noise = np.random.default_rng(0).normal(0, _NOISE_LEVELS, enlarged.shape)
    noisy = np.rint(np.clip(enlarged + noise, 0, 255)).astype(np.uint8)
    return encode(Pixels(noisy), media_type="image/jpeg", quality=_QUALITY)
