"""From pixels to encoded bytes."""

from __future__ import annotations

from typing import Final, Literal, cast

import numpy as np
import numpy.typing as npt

from imageflow_common.errors import ImageTooLarge, InvalidArgument, UnsupportedImage
from imageflow_common.images.tiff import encode_plain
from imageflow_common.images.vips import VipsError, array_as_vips, pyvips
from imageflow_common.pixels import PixelArray, Pixels

OutputType = Literal["image/jpeg", "image/png", "image/webp", "image/tiff"]
OUTPUT_TYPES: Final[tuple[OutputType, ...]] = ("image/jpeg", "image/png", "image/webp", "image/tiff")

JPEG_QUALITY: Final = 85
WEBP_QUALITY: Final = 80
PNG_COMPRESSION: Final = 1
WHITE: Final = 255

_LONGEST_SIDE: Final = {"image/jpeg": 65_535, "image/webp": 16_383}


def encode(pixels: Pixels, *, media_type: str, quality: int | None = None) -> bytes:
    """The pixels in the format that `media_type` names, without any metadata; sRGB is understood.

    - `image/jpeg`: 8 bits, `quality` 1 to 100 (85). It has no alpha: transparent parts show white behind.
    - `image/png`: 8 or 16 bits as the pixels have, floats at 16; lossless; compressed fast rather than small.
    - `image/webp`: 8 bits, `quality` 1 to 100 (80), lossy, alpha kept. Grey is stored as RGB: WebP has no
      grey.
    - `image/tiff`: uncompressed, exact for uint8, uint16 and float32, about as fast as copying memory.

    Reducing depth rounds to the nearest level; floats are taken as 0…1, what lies outside is cut off, NaN is
    0. `quality` means nothing to PNG and TIFF. Raises UnsupportedImage for another media type, ImageTooLarge
    for a side that the format cannot hold, InvalidArgument for a quality out of range."""
    if media_type not in OUTPUT_TYPES:
        raise UnsupportedImage(f"cannot encode as {media_type}; one of {', '.join(OUTPUT_TYPES)} is possible")
    if quality is not None and not 1 <= quality <= 100:
        raise InvalidArgument(f"quality must be 1 to 100, not {quality}")
    if media_type == "image/tiff":
        return encode_plain(pixels.array)
    longest = _LONGEST_SIDE.get(media_type)
    if longest is not None and max(pixels.width, pixels.height) > longest:
        raise ImageTooLarge(f"{media_type} holds at most {longest} pixels in a row or column")
    try:
        return _save(pixels.array, media_type, quality)
    except VipsError as exc:
        raise UnsupportedImage(f"the image cannot be encoded as {media_type}") from exc


def _save(array: PixelArray, media_type: str, quality: int | None) -> bytes:
    if media_type == "image/png":
        image = array_as_vips(to_uint16(array) if array.dtype == np.float32 else array)
        return cast(bytes, image.pngsave_buffer(compression=PNG_COMPRESSION, filter="up", keep="none"))
    image = array_as_vips(to_uint8(array))
    if media_type == "image/webp":
        return cast(bytes, _coloured(image).webpsave_buffer(Q=quality or WEBP_QUALITY, effort=2, keep="none"))
    if image.hasalpha():
        image = image.flatten(background=WHITE)
    return cast(bytes, image.jpegsave_buffer(Q=quality or JPEG_QUALITY, keep="none"))


def _coloured(image: pyvips.Image) -> pyvips.Image:
    return image.colourspace("srgb") if image.bands < 3 else image


def to_uint8(array: PixelArray) -> npt.NDArray[np.uint8]:
    """8 bits by rounding to the nearest level; uint8 comes back as it is."""
    if array.dtype == np.uint8:
        return cast(npt.NDArray[np.uint8], array)
    if array.dtype == np.uint16:
        # (255·x + 32895) >> 16 is x/257 rounded, for every x of 16 bits.
        return ((array.astype(np.uint32) * 255 + 32_895) >> 16).astype(np.uint8)
    return _levels(array, 255).astype(np.uint8)


def to_uint16(array: PixelArray) -> npt.NDArray[np.uint16]:
    """16 bits over the full range; uint16 comes back as it is."""
    if array.dtype == np.uint16:
        return cast(npt.NDArray[np.uint16], array)
    if array.dtype == np.uint8:
        return array.astype(np.uint16) * np.uint16(257)
    return _levels(array, 65_535).astype(np.uint16)


def _levels(array: PixelArray, highest: int) -> npt.NDArray[np.float32]:
    known = np.nan_to_num(array, nan=0.0, posinf=1.0, neginf=0.0)
    levels = np.rint(np.clip(known, 0.0, 1.0) * np.float32(highest))
    return cast(npt.NDArray[np.float32], levels)
