"""What an encoded image says it is, read and bounded before a single pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from imageflow_common.errors import ImageTooLarge, InvalidImage
from imageflow_common.formats import (
    EncodedBytes,
    MediaType,
    count_frames,
    media_type_of,
    name_of,
)
from imageflow_common.images.colour import decoded_format
from imageflow_common.images.vips import VipsError, pyvips

_LOADERS: dict[MediaType, str] = {
    "image/jpeg": "jpegload_buffer",
    "image/png": "pngload_buffer",
    "image/webp": "webpload_buffer",
    "image/tiff": "tiffload_buffer",
    "image/gif": "gifload_buffer",
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The most that an encoded image may be: its own bytes, the pixels of its first frame, and its frames."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_frames: int = 1_000


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """`width` and `height` in pixels, as seen after `orientation` (EXIF, 1 to 8) is applied; `channels` (1 to
    4) and `bits` per channel (8, 16, or 32 for floats) as `decode` returns them; `frames` of which it takes
    the first."""

    media_type: MediaType
    width: int
    height: int
    channels: int
    bits: int
    frames: int
    orientation: int

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places when the orientation is applied."""
        return self.orientation >= 5


DEFAULT_LIMITS = ImageLimits()


def probe(data: EncodedBytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Reads the header only, in time and memory that do not depend on the number of pixels.

    Raises UnsupportedImage for what is not JPEG, PNG, WebP, TIFF or GIF by content, or has a sample format
    that `decode` does not take; ImageTooLarge past a limit; InvalidImage for a header that cannot be read."""
    header, _ = open_image(data, limits=limits)
    return header


def open_image(data: EncodedBytes, *, limits: ImageLimits) -> tuple[ImageHeader, pyvips.Image]:
    """The checked header, and the image it belongs to, of which nothing is decoded yet. Raises like
    `probe`."""
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the image has {len(data)} bytes, more than {limits.max_bytes}")
    media_type = media_type_of(data)
    frames = count_frames(data, media_type, limit=limits.max_frames)
    image = load(data, media_type)
    if image.width * image.height > limits.max_pixels:
        raise ImageTooLarge(f"the image has {image.width}×{image.height} pixels, more than {limits.max_pixels} in all")
    channels, bits = decoded_format(image)
    orientation = orientation_of(image)
    width, height = image.width, image.height
    if orientation >= 5:
        width, height = height, width
    return ImageHeader(media_type, width, height, channels, bits, frames, orientation), image


def load(data: EncodedBytes, media_type: MediaType, **options: int | float) -> pyvips.Image:
    """The first frame as a lazy image; pixels are decoded once, from top to bottom, when asked for.

    `fail_on="error"`: what is cut short or broken raises, rather than leaving the rest grey."""
    try:
        return pyvips.Operation.call(_LOADERS[media_type], data, access="sequential", fail_on="error", **options)
    except VipsError as exc:
        raise damaged(media_type) from exc


def damaged(media_type: MediaType) -> InvalidImage:
    return InvalidImage(f"the {name_of(media_type)} is damaged or cut short")


def orientation_of(image: pyvips.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it is nonsense."""
    if not image.get_typeof("orientation"):
        return 1
    orientation = int(image.get("orientation"))
    return orientation if 1 <= orientation <= 8 else 1
