"""What can be said about encoded bytes without a codec: the format by content, and how many frames there are.

The scans below are bounded: each stops as soon as the limit is passed, so that a file of nothing but frames
costs no more than a good one, in time or memory.
"""

from __future__ import annotations

import struct
from typing import Final, Literal, get_args

from imageflow_common.errors import ImageTooLarge, InvalidImage, UnsupportedImage

MediaType = Literal["image/jpeg", "image/png", "image/webp", "image/tiff", "image/gif"]
MEDIA_TYPES: Final[tuple[MediaType, ...]] = get_args(MediaType)
EncodedBytes = bytes | bytearray | memoryview

RAW: Final = "image/x-raw"
"""Pixels as a RawLayout says, not encoded at all."""

MAX_JPEG_SEGMENTS: Final = 1_000

MAX_GIF_BLOCKS: Final = 1_000_000
"""A picture of 64 MiB in blocks of the usual 255 bytes has 263,000."""

_MAGIC: Final[tuple[tuple[bytes, MediaType], ...]] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
)


def media_type_of(data: EncodedBytes) -> MediaType:
    """The format by its first bytes; a name or a declared type counts for nothing.

    Raises InvalidImage for no bytes at all, UnsupportedImage for anything that is not on the list."""
    if len(data) == 0:
        raise InvalidImage("the image is empty")
    head = bytes(data[:16])
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    raise UnsupportedImage("the image is not JPEG, PNG, WebP, TIFF or GIF")


def count_frames(data: EncodedBytes, media_type: MediaType, *, limit: int) -> int:
    """The frames of a GIF or WebP, the pages of a TIFF, 1 for the others.

    Raises ImageTooLarge past `limit`, InvalidImage where the structure leads out of the data."""
    counter = _COUNTERS.get(media_type)
    if counter is None:
        return 1
    try:
        return counter(memoryview(data), limit)
    except (IndexError, OverflowError, struct.error) as exc:
        raise InvalidImage(f"the {name_of(media_type)} is damaged or cut short") from exc


def pixels_claimed(data: EncodedBytes) -> int:
    """The pixels that an image's first bytes claim, for admission: at once, and without a codec.

    For TIFF, whose size may stand anywhere, a guess from its bytes; 0 for what is no image or is damaged, which its
    decoding will say.
    """
    view = memoryview(data)
    try:
        width, height = _SIZES[media_type_of(data)](view)
    except (UnsupportedImage, InvalidImage, IndexError, struct.error):
        return 0
    return width * height


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    """ITU-T T.81, annex B: segments from byte 2, each a marker and a length, up to the frame header."""
    position = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        marker, length = struct.unpack_from(">HH", data, position)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        position += 2 + length
    return 0, 0


def _png_size(data: memoryview) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif_size(data: memoryview) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _webp_size(data: memoryview) -> tuple[int, int]:
    """WebP container specification: the first chunk is VP8X, VP8L or VP8."""
    kind, _ = bytes(data[12:16]), data[29]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff_guess(data: memoryview) -> tuple[int, int]:
    return len(data), 1


_SIZES: Final = {
    "image/jpeg": _jpeg_size,
    "image/png": _png_size,
    "image/gif": _gif_size,
    "image/webp": _webp_size,
    "image/tiff": _tiff_guess,
}


def name_of(media_type: MediaType) -> str:
    return {"image/webp": "WebP"}.get(media_type, media_type.removeprefix("image/").upper())


def _checked(frames: int, limit: int) -> int:
    if frames > limit:
        raise ImageTooLarge(f"the image has more than {limit} frames")
    return frames


def _count_gif(data: memoryview, limit: int) -> int:
    """GIF89a, appendix B: a header of 13 bytes, a colour table, then blocks, each a chain of sub-blocks."""
    position = 13 + _colour_table(data[10])
    frames = blocks = 0
    while position < len(data) and data[position] != 0x3B:
        kind = data[position]
        if kind == 0x2C:
            frames = _checked(frames + 1, limit)
            position += 11 + _colour_table(data[position + 9])
        elif kind == 0x21:
            position += 2
        else:
            break
        while data[position] and position < len(data):
            blocks += 1
            if blocks > MAX_GIF_BLOCKS:
                raise ImageTooLarge("the GIF has too many blocks")
            position += data[position] + 1
        position += 1
    return max(frames, 1)


def _colour_table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _count_webp(data: memoryview, limit: int) -> int:
    """RIFF chunks from byte 12: four letters, a length, contents padded to even."""
    position, frames = 12, 0
    for _ in range(2 * limit + 64):
        if position + 8 > len(data):
            return max(frames, 1)
        if bytes(data[position : position + 4]) == b"ANMF":
            frames = _checked(frames + 1, limit)
        (length,) = struct.unpack_from("<I", data, position + 4)
        position += 8 + length + (length & 1)
    raise ImageTooLarge("the WebP has too many chunks")


def _count_tiff(data: memoryview, limit: int) -> int:
    """TIFF 6.0, section 2: directories are a chain; BigTIFF (magic 43) has the same with wider numbers."""
    order = "<" if data[0] == 0x49 else ">"
    big = bytes(data[2:4]) in (b"+\0", b"\0+")
    count_format, offset_format, entry_bytes = (f"{order}Q", f"{order}Q", 20) if big else (f"{order}H", f"{order}I", 12)
    (offset,) = struct.unpack_from(offset_format, data, 8 if big else 4)
    pages = 0
    while offset:
        pages = _checked(pages + 1, limit)
        (entries,) = struct.unpack_from(count_format, data, offset)
        after = offset + struct.calcsize(count_format) + entries * entry_bytes
        (offset,) = struct.unpack_from(offset_format, data, after)
    return max(pages, 1)


_COUNTERS: Final = {"image/gif": _count_gif, "image/webp": _count_webp, "image/tiff": _count_tiff}
