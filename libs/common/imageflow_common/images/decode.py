"""From encoded bytes to pixels."""

from __future__ import annotations

from typing import Final

from imageflow_common.formats import EncodedBytes
from imageflow_common.images.colour import to_srgb
from imageflow_common.images.header import (
    DEFAULT_LIMITS,
    ImageHeader,
    ImageLimits,
    damaged,
    load,
    open_image,
)
from imageflow_common.images.orientation import oriented
from imageflow_common.images.tiff import decode_plain
from imageflow_common.images.vips import VipsError, from_vips, pyvips
from imageflow_common.pixels import Affine, Pixels

SHRINK_FACTORS: Final = (8, 4, 2)
"""What a JPEG decoder can shrink by while decoding (a part of each 8×8 block's frequencies)."""


def decode(
    data: EncodedBytes, *, limits: ImageLimits = DEFAULT_LIMITS, min_size: tuple[int, int] | None = None
) -> Pixels:
    """The first frame, upright, in sRGB or grey: H×W×C, C-contiguous, all work done when this returns.

    EXIF orientation is applied. Colour profiles and CMYK become sRGB, other colour spaces too; grey stays one
    channel, alpha stays (unassociated), palettes and 1-bit images are expanded to 8 bits. 16-bit PNG and TIFF
    stay uint16, floats float32, unscaled; everything else is uint8.

    `min_size` is the (width, height), after orientation, that the caller needs at least: a JPEG that is at
    least twice as large in both is shrunk by 2, 4 or 8 while it is decoded, which saves most of the work.
    `to_input` maps the result to the full-size image after orientation, exactly: one pixel stands for a
    square of that many, and what does not fill a last column or row (up to 7 pixels) is left out.

    Raises what `probe` raises, and InvalidImage for a damaged or truncated image."""
    header, image = open_image(data, limits=limits)
    if header.media_type == "image/tiff" and (stored := decode_plain(data)) is not None:
        return Pixels(stored)
    shrink = _shrink(header, min_size)
    if shrink > 1:
        image = load(data, header.media_type, shrink=shrink)
    size = (image.width, image.height)
    try:
        array = from_vips(_upright(to_srgb(image), header.orientation))
    except VipsError as exc:
        raise damaged(header.media_type) from exc
    full_size = (header.width, header.height) if shrink > 1 else None
    return Pixels(array, _to_input(header, size, shrink), full_size)


def _upright(image: pyvips.Image, orientation: int) -> pyvips.Image:
    """Turning needs all of the image at once, and the loader gives it from top to bottom only."""
    return image if orientation == 1 else image.copy_memory().autorot()


def _shrink(header: ImageHeader, min_size: tuple[int, int] | None) -> int:
    """The largest factor that leaves at least `min_size`; the decoder rounds sizes down."""
    if min_size is None or header.media_type != "image/jpeg":
        return 1
    width, height = min_size
    for factor in SHRINK_FACTORS:
        if header.width // factor >= max(1, width) and header.height // factor >= max(1, height):
            return factor
    return 1


def _to_input(header: ImageHeader, stored_size: tuple[int, int], shrink: int) -> Affine:
    """Back to the stored image, up to full size, and upright again: a mirrored image lacks what does not fill
    a pixel at the left or top, not at the right or bottom."""
    if shrink == 1:
        return Affine()
    width, height = stored_size
    full_width, full_height = (header.height, header.width) if header.swaps_sides else (header.width, header.height)
    small = oriented(header.orientation, width=width, height=height)
    full = oriented(header.orientation, width=full_width, height=full_height)
    return full @ Affine.scale(shrink, shrink) @ small.inverse()
