"""Colour as decoded: everything becomes sRGB or grey, keeping its depth."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Final

import numpy as np

from imageflow_common.errors import UnsupportedImage
from imageflow_common.images.vips import array_as_vips, from_vips, pyvips

_PROFILE: Final = "icc-profile-data"
_BITS: Final = {"uchar": 8, "ushort": 16, "float": 32}
_CONVERTED: Final = ("cmyk", "lab", "labs", "labq", "lch", "cmc", "xyz", "yxy", "hsv", "oklab", "oklch")
"""Colour spaces that are neither RGB nor grey: these become sRGB of 8 bits."""

_SRGB_TOLERANCE: Final = 1
"""A profile that moves no colour of the probe by more than this many of 255 levels is taken to be sRGB."""


def decoded_format(image: pyvips.Image) -> tuple[int, int]:
    """The channels (1 to 4) and bits per channel (8, 16, or 32 for floats) that `to_srgb` will give.

    Raises UnsupportedImage for signed, 32-bit integer, double or complex samples, and for more than 4
    channels."""
    if image.interpretation in _CONVERTED:
        alpha = image.hasalpha()
        return (4 if alpha else 3), 8
    bits = _BITS.get(image.format)
    if bits is None:
        raise UnsupportedImage(f"samples of type {image.format} are not supported")
    if image.bands > 4:
        raise UnsupportedImage(f"an image of {image.bands} channels is not supported")
    return image.bands, bits


def to_srgb(image: pyvips.Image) -> pyvips.Image:
    """The image in sRGB, or grey on the sRGB curve, lazily; alpha and depth are kept.

    An embedded profile is applied to integers (perceptual intent, LittleCMS) unless it is sRGB itself; a
    broken one, or one for another colour space, is ignored, as browsers do. CMYK without a profile is read by
    the generic profile of libvips. Floats carry no agreed meaning for a profile and are left as they are."""
    if image.interpretation == "cmyk":
        return image.icc_transform("srgb", embedded=True, input_profile="cmyk", intent="perceptual")
    if image.interpretation in _CONVERTED:
        return image.colourspace("srgb")
    if image.format == "float" or not image.get_typeof(_PROFILE):
        return image
    if _is_srgb(bytes(image.get(_PROFILE)), grey=image.bands < 3):
        return image
    return _apply_profile(image)


def _apply_profile(image: pyvips.Image) -> pyvips.Image:
    depth = 16 if image.format == "ushort" else 8
    converted = image.icc_transform("srgb", embedded=True, intent="perceptual", depth=depth)
    if image.bands >= 3:
        return converted
    grey = converted[0]
    return grey.bandjoin(converted[converted.bands - 1]) if image.bands == 2 else grey


@lru_cache(maxsize=32)
def _is_srgb(profile: bytes, *, grey: bool) -> bool:
    """Whether the profile leaves colours where they are, or cannot be applied at all; found by trying it on a
    few, since names lie. Cameras and editors embed sRGB in most pictures, and applying it costs more than
    decoding."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    colours = levels[:, None] if grey else np.array(list(itertools.product(levels, repeat=3)), np.uint8)
    image = array_as_vips(np.ascontiguousarray(colours[None])).copy()
    image.set_type(pyvips.GValue.blob_type, _PROFILE, profile)
    try:
        moved = from_vips(_apply_profile(image))
    except pyvips.Error:
        return True
    return bool(np.abs(moved.astype(np.int16) - colours).max() <= _SRGB_TOLERANCE)
