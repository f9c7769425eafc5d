"""Pictures, good and bad, as files."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

Pixels = Any


@cache
def photo(width: int = 512, height: int = 512) -> bytes:
    """A photograph as JPEG."""
    return encoded(Image.fromarray(data.astronaut()).resize((width, height)), "JPEG", quality=90)


@cache
def coins(scale: int = 1) -> bytes:
    """Skimage's coins as PNG, each pixel `scale` times as wide and high."""
    image = Image.fromarray(data.coins())
    return encoded(image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST), "PNG")


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def decoded(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


def one_pixel() -> bytes:
    return encoded(Image.new("RGB", (1, 1), (200, 10, 10)), "PNG")


def deep() -> bytes:
    """16 bits a sample."""
    ramp = np.linspace(0, 65535, 64 * 48, dtype=np.uint16).reshape(48, 64)
    return encoded(Image.fromarray(ramp), "PNG")


def cmyk() -> bytes:
    return encoded(Image.fromarray(data.astronaut()).convert("CMYK"), "JPEG")


def bomb(side: int = 20_000) -> bytes:
    """A sound PNG of side × side pixels, in some 50 kB."""
    row = bytes(1 + (side + 7) // 8)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(row * side, 1)),
            _chunk(b"IEND", b""),
        ]
    )


def long_film(frames: int = 10_000) -> bytes:
    """A sound GIF of that many frames of one pixel."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + frame * frames + b"\x3b"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
