"""Plain TIFF: one page, uncompressed, in one strip, after a header of fixed form.

Intermediates are stored this way: every TIFF reader opens them, no value changes, and writing costs one copy
of the memory. Baseline TIFF 6.0 with SampleFormat for floats and ExtraSamples for (unassociated) alpha,
little-endian.
"""

from __future__ import annotations

import struct
import sys
from typing import Any, Final, cast

import numpy as np

from imageflow_common.errors import ImageTooLarge
from imageflow_common.formats import EncodedBytes
from imageflow_common.pixels import PixelArray

_ASCII: Final = 2
_SHORT: Final = 3
_LONG: Final = 4
_PIXELS_AT: Final = 256
"""Where the pixels start: past every header, and aligned for any dtype."""


def encode_plain(array: PixelArray) -> bytes:
    """The H×W×C array (uint8, uint16 or float32), exactly. Raises ImageTooLarge past 4 GiB, TIFF's own
    bound."""
    return b"".join((_header(array.shape, array.dtype), _little_endian(array).data.cast("B")))


def decode_plain(data: EncodedBytes) -> PixelArray | None:
    """The array, read-only over `data`, if `encode_plain` wrote it; None for any other TIFF."""
    if len(data) < _PIXELS_AT or bytes(data[:8]) != _START:
        return None
    head = bytes(data[:_PIXELS_AT])
    entries = {
        tag: value for tag, _, count, value in struct.iter_unpack("<HHII", head[10 : 10 + 12 * _ENTRIES]) if count == 1
    }
    for dtype in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)):
        shape = (entries.get(257, 0), entries.get(256, 0), entries.get(277, 0))
        if _is_plain(data, head, shape, dtype):
            values = np.frombuffer(data, dtype.newbyteorder("<"), offset=_PIXELS_AT)
            return cast(PixelArray, values.astype(dtype, copy=False).reshape(shape))
    return None


def _is_plain(data: EncodedBytes, head: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    size = shape[0] * shape[1] * shape[2] * dtype.itemsize
    if not 1 <= shape[2] <= 4 or len(data) != _PIXELS_AT + size:
        return False
    return head == _header(shape, dtype)


_START: Final = struct.pack("<2sHI", b"II", 42, 8)
_ENTRIES: Final = 12


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    height, width, channels = shape
    size = height * width * channels * dtype.itemsize
    if _PIXELS_AT + size >= 2**32:
        raise ImageTooLarge("a TIFF holds at most 4 GiB")
    bits, sample_format = 8 * dtype.itemsize, 3 if dtype.kind == "f" else 1
    after = 10 + 12 * _ENTRIES + 4
    entries = (
        _entry(256, _LONG, 1, width),
        _entry(257, _LONG, 1, height),
        _shorts(258, [bits] * channels, at=after),
        _entry(259, _SHORT, 1, 1),
        _entry(262, _SHORT, 1, 2 if channels >= 3 else 1),
        _entry(273, _LONG, 1, _PIXELS_AT),
        _entry(277, _SHORT, 1, channels),
        _entry(278, _LONG, 1, height),
        _entry(279, _LONG, 1, size),
        _entry(284, _SHORT, 1, 1),
        # Where there is no alpha an empty Software takes its place: the directory keeps its length.
        _entry(338, _SHORT, 1, 2) if channels in (2, 4) else _entry(305, _ASCII, 1, 0),
        _shorts(339, [sample_format] * channels, at=after + 8),
    )
    ordered = sorted(entries, key=lambda entry: struct.unpack_from("<H", entry))
    directory = struct.pack("<H", _ENTRIES) + b"".join(ordered) + struct.pack("<I", 0)
    arrays = struct.pack("<4H", *[bits] * 4) + struct.pack("<4H", *[sample_format] * 4)
    return (_START + directory + arrays).ljust(_PIXELS_AT, b"\0")


def _entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def _shorts(tag: int, values: list[int], *, at: int) -> bytes:
    """Up to two shorts fit the entry itself; more are placed `at` an offset."""
    if len(values) <= 2:
        packed = struct.pack(f"<{len(values)}H", *values).ljust(4, b"\0")
        return struct.pack("<HHI", tag, _SHORT, len(values)) + packed
    return _entry(tag, _SHORT, len(values), at)


def _little_endian(array: PixelArray) -> PixelArray:
    contiguous = cast(PixelArray, np.ascontiguousarray(array))
    if sys.byteorder == "little":
        return contiguous
    return cast(PixelArray, contiguous.astype(array.dtype.newbyteorder("<")))
