"""What is refused, and how early: other formats, bombs, truncations and noise."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from skimage import data

from imageflow_common.errors import (
    ImageFlowError,
    ImageTooLarge,
    InvalidImage,
    UnsupportedImage,
)
from imageflow_common.images import (
    ImageLimits,
    array_as_vips,
    decode,
    encode,
    probe,
)
from imageflow_common.images.vips import pyvips
from imageflow_common.pixels import Pixels

Bytes = npt.NDArray[np.uint8]
SMALL = ImageLimits(max_bytes=4_000_000, max_pixels=1_000_000, max_frames=20)


def photograph(name: str = "astronaut") -> Bytes:
    """H×W×C."""
    array: Bytes = getattr(data, name)()
    return np.ascontiguousarray(array if array.ndim == 3 else array[:, :, None])


def save(image: Any, saver: str, **options: Any) -> bytes:
    return bytes(getattr(image, f"{saver}save_buffer")(**options))


def tiff(array: npt.NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "encoded",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect/></svg>",
        b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n1 0 obj\n",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
        b"<!DOCTYPE html><html><body>photo.jpg</body></html>",
        b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0",
        b"P6\n1 1\n255\n\0\0\0",
        b"8BPS\0\x01",
        b"\xff\x0a",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"GIF90a",
        b"\0",
        b"PK\x03\x04",
    ],
)
def test_what_is_not_on_the_list_is_refused_by_content(encoded: bytes) -> None:
    for function in (probe, decode):
        with pytest.raises(UnsupportedImage):
            function(encoded)


@pytest.mark.parametrize("loader", ["svgload_buffer", "heifload_buffer", "pdfload_buffer", "ppmload_buffer"])
def test_other_loaders_cannot_be_reached_at_all(loader: str) -> None:
    with pytest.raises(pyvips.Error):
        pyvips.Operation.call(loader, b"P6\n1 1\n255\n\0\0\0")


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\x04\0\0\0WEBP",
        b"II*\0",
        b"MM\0*\0\0\0\x08",
        b"II*\0\xff\xff\xff\x7f",
        b"II+\0\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"\xff\xd8\xff<html>",
    ],
)
def test_bytes_that_only_begin_like_an_image_are_invalid(encoded: bytes) -> None:
    for function in (probe, decode):
        with pytest.raises(InvalidImage):
            function(encoded)


ENCODINGS: list[tuple[str, dict[str, Any]]] = [
    ("jpeg", {}),
    ("jpeg", {"interlace": True}),
    ("png", {}),
    ("png", {"interlace": True}),
    ("webp", {}),
    ("webp", {"lossless": True}),
    ("tiff", {}),
    ("tiff", {"compression": "lzw"}),
    ("gif", {}),
]


@pytest.mark.parametrize(("saver", "options"), ENCODINGS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_image_is_invalid(saver: str, options: dict[str, Any], share: float) -> None:
    encoded = save(array_as_vips(photograph()), saver, **options)
    with pytest.raises(InvalidImage):
        decode(encoded[: int(len(encoded) * share)])


def test_a_truncated_jpeg_is_invalid_when_it_is_shrunk_or_turned_too() -> None:
    turned = array_as_vips(photograph()).copy()
    turned.set_type(pyvips.GValue.gint_type, "orientation", 6)
    encoded = save(turned, "jpeg")
    with pytest.raises(InvalidImage):
        decode(encoded[: len(encoded) // 2], min_size=(100, 100))


@pytest.mark.parametrize(("saver", "options"), ENCODINGS)
def test_noise_in_the_bytes_never_raises_anything_else(saver: str, options: dict[str, Any]) -> None:
    encoded = save(array_as_vips(photograph()[:64, :64].copy()), saver, **options)
    random = np.random.default_rng(5)
    for _ in range(30):
        broken = bytearray(encoded)
        for place in random.integers(0, len(broken), 1 + random.integers(8)):
            broken[place] = random.integers(256)
        error = refusal(bytes(broken))
        assert error is None or error.code == "INVALID_ARGUMENT"
        assert error is None or "vips" not in error.message.lower()


def refusal(encoded: bytes) -> ImageFlowError | None:
    try:
        decode(encoded, limits=SMALL)
    except ImageFlowError as error:
        return error
    return None


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    """20,000 by 20,000 pixels in 400 kB."""
    body = zlib.compress(bytes(20_001 * 20_000), 9)
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    for function in (probe, decode):
        with pytest.raises(ImageTooLarge, match="20000×20000"):
            function(bomb)


def gif(frames: int, *, comments: int = 0) -> bytes:
    frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    comment = b"\x21\xfe" + b"\x01a" * comments + b"\0" if comments else b""
    return b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff" + comment + frame * frames + b"\x3b"


def test_a_gif_of_many_frames_is_refused_and_one_of_few_is_not() -> None:
    assert probe(gif(1000)).frames == 1000
    assert decode(gif(1000)).array.shape[:2] == (1, 1)
    for frames in (1001, 10_000, 1_000_000):
        with pytest.raises(ImageTooLarge, match="frames"):
            decode(gif(frames))


def test_a_gif_of_nothing_but_blocks_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="blocks"):
        probe(gif(1, comments=1_500_000))


def test_pages_of_a_tiff_are_bounded_even_in_a_loop() -> None:
    pages = tiff(np.zeros((5, 8, 8), np.uint8), photometric="minisblack")
    assert probe(pages).frames == 5
    with pytest.raises(ImageTooLarge, match="frames"):
        probe(pages, limits=ImageLimits(max_frames=4))
    loop = bytearray(encode(Pixels(np.zeros((2, 2, 1), np.uint8)), media_type="image/tiff"))
    loop[154:158] = struct.pack("<I", 8)
    with pytest.raises(ImageTooLarge, match="frames"):
        probe(bytes(loop))


@pytest.mark.parametrize("saver", ["jpeg", "png", "webp", "tiff", "gif"])
def test_the_limits_hold_for_every_format(saver: str) -> None:
    encoded = save(array_as_vips(photograph()), saver)
    assert probe(encoded, limits=ImageLimits(max_pixels=512 * 512)).width == 512
    with pytest.raises(ImageTooLarge):
        probe(encoded, limits=ImageLimits(max_pixels=512 * 512 - 1))
    with pytest.raises(ImageTooLarge):
        probe(encoded, limits=ImageLimits(max_bytes=len(encoded) - 1))


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (np.zeros((9, 9), np.int16), {}),
        (np.zeros((9, 9), np.uint32), {}),
        (np.zeros((9, 9, 5), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}),
    ],
)
def test_samples_that_pixels_cannot_hold_are_unsupported(array: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedImage):
        decode(tiff(array, **options))
