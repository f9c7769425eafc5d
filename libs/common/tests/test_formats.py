"""What an image's first bytes claim."""

from __future__ import annotations

import numpy as np
import pytest

from imageflow_common.formats import pixels_claimed
from imageflow_common.images import encode, probe
from imageflow_common.images.vips import pyvips
from imageflow_common.pixels import Pixels

PICTURE = Pixels(np.random.default_rng(1).integers(0, 256, (37, 61, 3), dtype=np.uint8))


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp"])
def test_the_pixels_claimed_are_those_of_the_header(media_type: str) -> None:
    data = encode(PICTURE, media_type=media_type)
    assert pixels_claimed(data) == probe(data).width * probe(data).height == 37 * 61


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}])
def test_every_kind_of_webp_is_read(options: dict[str, bool]) -> None:
    image = pyvips.Image.new_from_memory(PICTURE.array.tobytes(), 61, 37, 3, "uchar")
    assert pixels_claimed(image.webpsave_buffer(**options)) == 37 * 61
    assert pixels_claimed(image.bandjoin(128).webpsave_buffer(**options)) == 37 * 61


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF....WEBPVP8X"]
)
def test_what_is_no_image_claims_nothing(data: bytes) -> None:
    assert pixels_claimed(data) == 0


def test_a_jpeg_of_nothing_but_segments_is_given_up_soon() -> None:
    assert pixels_claimed(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 1_000_000) == 0
