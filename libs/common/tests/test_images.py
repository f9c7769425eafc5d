"""Decoding and encoding, on real photographs."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import data

from imageflow_common.errors import (
    ImageTooLarge,
    InvalidArgument,
    UnsupportedImage,
)
from imageflow_common.images import (
    array_as_vips,
    as_vips,
    decode,
    encode,
    from_vips,
    probe,
    to_uint8,
    to_uint16,
)
from imageflow_common.images.header import load
from imageflow_common.images.vips import pyvips
from imageflow_common.pixels import IDENTITY, PixelArray, Pixels

Bytes = npt.NDArray[np.uint8]


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


def error_of(decoded: npt.NDArray[Any], original: npt.NDArray[Any]) -> float:
    """The mean difference in levels."""
    return float(np.abs(decoded.astype(float) - original).mean())


def with_profile(image: Any, profile: bytes) -> Any:
    marked = image.copy()
    marked.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return marked


# What is decoded


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "coins"])
@pytest.mark.parametrize(
    ("saver", "options", "tolerance"),
    [
        ("jpeg", {"Q": 95}, 3),
        ("png", {}, 0),
        ("webp", {"lossless": True}, 0),
        ("webp", {"Q": 95}, 4),
        ("tiff", {}, 0),
        ("tiff", {"compression": "lzw"}, 0),
        ("tiff", {"compression": "deflate", "tile": True, "bigtiff": True}, 0),
        ("jpeg", {"Q": 95, "interlace": True}, 3),
        ("png", {"interlace": True}, 0),
    ],
)
def test_a_photograph_survives_its_format(name: str, saver: str, options: dict[str, Any], tolerance: float) -> None:
    array = photograph(name)
    encoded = save(array_as_vips(array), saver, **options)
    pixels = decode(encoded)
    header = probe(encoded)
    assert (header.width, header.height) == (pixels.width, pixels.height) == (array.shape[1], array.shape[0])
    assert (header.channels, header.bits) == (pixels.channels, 8)
    assert pixels.array.flags.c_contiguous
    assert pixels.to_input == IDENTITY
    assert error_of(pixels.array, array) <= tolerance


def test_grey_stays_one_channel_and_alpha_stays() -> None:
    grey = photograph("coins")
    assert decode(save(array_as_vips(grey), "jpeg")).channels == 1
    for array in (np.dstack([grey, 255 - grey]), np.dstack([grey, grey, grey, 255 - grey])):
        decoded = decode(save(array_as_vips(np.ascontiguousarray(array)), "png"))
        np.testing.assert_array_equal(decoded.array, array)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_and_floats_stay_as_deep_as_they_are(channels: int) -> None:
    deep = np.random.default_rng(3).integers(0, 65_536, (20, 30, channels), np.uint16)
    np.testing.assert_array_equal(decode(save(array_as_vips(deep), "png")).array, deep)
    options: dict[str, Any] = {
        "photometric": "rgb" if channels > 2 else "minisblack",
        "planarconfig": "contig",
    }
    if channels in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    floats = deep.astype(np.float32) / 1000 - 3
    for array in (deep, floats):
        shaped = array[:, :, 0] if channels == 1 else array
        encoded = tiff(shaped, **options)
        np.testing.assert_array_equal(decode(encoded).array, array)
        assert probe(encoded).bits == 8 * array.dtype.itemsize


def test_palettes_and_single_bits_are_expanded() -> None:
    array = photograph()
    assert decode(save(array_as_vips(array), "png", palette=True)).array.shape == array.shape
    bits = photograph("coins") > 100
    expected = bits * np.uint8(255)
    np.testing.assert_array_equal(decode(save(array_as_vips(expected), "png", bitdepth=1)).array, expected)
    np.testing.assert_array_equal(decode(tiff(bits[:, :, 0], photometric="minisblack")).array, expected)


def test_a_gif_gives_its_first_frame() -> None:
    frames = np.concatenate([np.full((20, 30, 3), level, np.uint8) for level in (255, 0, 128)])
    image = array_as_vips(frames).copy()
    image.set_type(pyvips.GValue.gint_type, "page-height", 20)
    for saver in ("gif", "webp"):
        encoded = save(image, saver)
        assert probe(encoded).frames == 3
        decoded = decode(encoded)
        assert (decoded.width, decoded.height) == (30, 20)
        assert decoded.array.min() >= 250


# Orientation


CORNERS = np.zeros((60, 90, 3), np.uint8)
CORNERS[:30, :45] = (255, 0, 0)
CORNERS[:30, 45:] = (0, 255, 0)
CORNERS[30:, :45] = (0, 0, 255)
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def oriented(array: Bytes, orientation: int) -> Any:
    image = array_as_vips(array).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("saver", ["jpeg", "png", "webp", "tiff"])
def test_the_image_is_upright_whatever_its_orientation(orientation: int, saver: str) -> None:
    encoded = save(oriented(CORNERS, orientation), saver)
    expected = UPRIGHT[orientation](CORNERS)
    header, pixels = probe(encoded), decode(encoded)
    assert header.orientation == orientation
    assert (header.width, header.height) == (expected.shape[1], expected.shape[0])
    assert error_of(pixels.array, expected) <= 4
    assert pixels.array.flags.c_contiguous


# Shrinking while decoding


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(417, 313), (400, 320)])
@pytest.mark.parametrize("min_size", [(40, 40), (90, 70), (150, 100)])
def test_a_shrunk_jpeg_is_large_enough_and_says_where_its_pixels_are(
    orientation: int, size: tuple[int, int], min_size: tuple[int, int]
) -> None:
    """A blob is found where it was, within a quarter of a pixel of the input."""
    width, height = size
    columns, rows = np.arange(width) + 0.5 - 150, np.arange(height)[:, None] + 0.5 - 110
    blob = 255 * np.exp(-(columns**2 + rows**2) / (2 * 25**2))
    encoded = save(oriented(np.rint(blob)[:, :, None].astype(np.uint8), orientation), "jpeg", Q=98)
    full, small = decode(encoded), decode(encoded, min_size=min_size)
    assert small.width >= min_size[0]
    assert small.height >= min_size[1]
    assert small.width < full.width
    np.testing.assert_allclose(small.to_input.apply(centre_of_mass(small)), centre_of_mass(full), atol=0.25)


def centre_of_mass(pixels: Pixels) -> npt.NDArray[np.float64]:
    values = pixels.array[:, :, 0].astype(np.float64)
    columns, rows = np.arange(pixels.width) + 0.5, np.arange(pixels.height)[:, None] + 0.5
    total = values.sum()
    return np.array([[(values * columns).sum() / total, (values * rows).sum() / total]])


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 80), st.integers(1, 80))
@settings(max_examples=60, deadline=None)
def test_min_size_is_kept_where_the_image_has_it(width: int, height: int, least: int, lower: int) -> None:
    encoded = encode(Pixels(np.zeros((height, width, 3), np.uint8)), media_type="image/jpeg")
    pixels = decode(encoded, min_size=(least, lower))
    assert pixels.width >= min(width, least)
    assert pixels.height >= min(height, lower)
    edge = pixels.to_input.apply(np.array([[pixels.width, pixels.height]], float))[0]
    assert width - 8 < edge[0] <= width
    assert height - 8 < edge[1] <= height


# Colour


@pytest.mark.parametrize("saver", ["png", "tiff", "webp"])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_wide_gamut_profile_is_converted_to_srgb(saver: str, alpha: bool) -> None:
    """Within 2 levels, where the values themselves are 3 off on the average; alpha is not touched."""
    array = photograph()
    if alpha:
        array = np.ascontiguousarray(np.dstack([array, array[:, :, 0]]))
    wide = array_as_vips(array).icc_transform("p3", input_profile="srgb")
    encoded = save(wide, saver, **({"lossless": True} if saver == "webp" else {}))
    pixels = decode(encoded)
    seen = array[:, :, 3] > 0 if alpha else np.ones(array.shape[:2], bool)
    assert error_of(from_vips(wide), array) >= 2
    assert np.abs(pixels.array[seen].astype(int) - array[seen]).max() <= 2
    if alpha:
        np.testing.assert_array_equal(pixels.array[:, :, 3], array[:, :, 3])


def test_a_profile_is_applied_at_16_bits() -> None:
    array = photograph().astype(np.uint16) * np.uint16(257)
    wide = array_as_vips(array).icc_transform("p3", input_profile="srgb", depth=16)
    decoded = decode(save(wide, "png")).array
    assert decoded.dtype == np.uint16
    assert np.abs(decoded.astype(int) - array).max() <= 4 * 257


def test_an_embedded_srgb_profile_changes_nothing() -> None:
    array = photograph()
    marked = array_as_vips(array).icc_transform("srgb", input_profile="srgb")
    stored = from_vips(marked)
    np.testing.assert_array_equal(decode(save(marked, "png")).array, stored)


@pytest.mark.parametrize("saver", ["jpeg", "tiff"])
@pytest.mark.parametrize("embedded", [True, False])
def test_cmyk_becomes_srgb(saver: str, embedded: bool) -> None:
    """With its profile or by the generic one; ink cannot show every colour, so within 9 levels on the
    average."""
    array = photograph()
    inks = array_as_vips(array).icc_transform("cmyk", input_profile="srgb")
    encoded = save(inks, saver, **({} if embedded else {"keep": "none"}))
    assert probe(encoded).channels == 3
    assert error_of(decode(encoded).array, array) <= 9


def test_lab_becomes_srgb() -> None:
    array = photograph()
    encoded = save(array_as_vips(array).colourspace("lab"), "tiff")
    assert (probe(encoded).channels, probe(encoded).bits) == (3, 8)
    assert error_of(decode(encoded).array, array) <= 1


@pytest.mark.parametrize("name", ["astronaut", "coins"])
def test_a_profile_that_cannot_be_applied_is_ignored(name: str) -> None:
    array = photograph(name)
    image = array_as_vips(array)
    inks = image.colourspace("srgb").icc_transform("cmyk", input_profile="srgb").get("icc-profile-data")
    for profile in (b"not a profile" * 20, bytes(inks)):
        np.testing.assert_array_equal(decode(save(with_profile(image, profile), "png")).array, array)


# What is encoded


PIXELS = st.sampled_from(["uint8", "uint16", "float32"]).flatmap(
    lambda dtype: hnp.arrays(dtype, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)), elements=None)
)


@given(PIXELS)
@settings(max_examples=80, deadline=None)
def test_tiff_is_exact_for_us_and_for_other_readers(array: PixelArray) -> None:
    encoded = encode(Pixels(array), media_type="image/tiff")
    for read in (decode(encoded).array, from_vips(load(encoded, "image/tiff"))):
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(encoded)).reshape(array.shape), array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp"])
def test_every_kind_of_pixels_can_be_encoded(dtype: npt.DTypeLike, channels: int, media_type: str) -> None:
    full = {np.uint8: 255, np.uint16: 65_535, np.float32: 1}[dtype]  # type: ignore[index]
    planes = photograph("coffee")[:60, :80, :1].repeat(channels, axis=2)
    if channels in (2, 4):
        planes[:, :, -1] = 255
    array = (planes / 255 * full).astype(dtype)
    decoded = decode(encode(Pixels(array), media_type=media_type))
    depth = np.uint16 if media_type == "image/png" and dtype != np.uint8 else np.uint8
    assert decoded.array.dtype == depth
    white = 65_535 if depth == np.uint16 else 255
    assert error_of(decoded.array[:, :, 0] / white * 255, planes[:, :, 0]) <= 6


def test_png_keeps_16_bits_exactly_and_floats_to_16_bits() -> None:
    deep = np.arange(65_536, dtype=np.uint16).reshape(256, 256, 1)
    np.testing.assert_array_equal(decode(encode(Pixels(deep), media_type="image/png")).array, deep)
    floats = (deep / 65_535).astype(np.float32)
    np.testing.assert_array_equal(decode(encode(Pixels(floats), media_type="image/png")).array, deep)


def test_depth_is_reduced_to_the_nearest_level() -> None:
    every = np.arange(65_536, dtype=np.uint16).reshape(-1, 1, 1)
    np.testing.assert_array_equal(to_uint8(every), np.rint(every / 257))
    odd = np.array([np.nan, -1, 0, 0.5, 1, 7, np.inf, -np.inf], np.float32).reshape(1, -1, 1)
    assert to_uint8(odd).ravel().tolist() == [0, 0, 0, 128, 255, 255, 255, 0]
    assert to_uint16(np.array([[[0], [255]]], np.uint8)).ravel().tolist() == [0, 65_535]


def test_transparent_parts_are_white_in_a_jpeg() -> None:
    array = np.zeros((16, 16, 4), np.uint8)
    array[:, 8:, 3] = 255
    decoded = decode(encode(Pixels(array), media_type="image/jpeg", quality=100)).array
    assert decoded[:, :7].min() >= 250
    assert decoded[:, 9:].max() <= 5


def test_nothing_but_the_picture_is_written() -> None:
    for media_type, marks in itertools.product(("image/jpeg", "image/png", "image/webp"), (b"Exif", b"ICC", b"vips")):
        assert marks not in encode(Pixels(photograph()), media_type=media_type)


def test_quality_decides_the_size_and_is_checked() -> None:
    pixels = Pixels(photograph())
    for media_type in ("image/jpeg", "image/webp"):
        sizes = [len(encode(pixels, media_type=media_type, quality=quality)) for quality in (10, 50, 95)]
        assert sizes == sorted(sizes)
        for quality in (0, 101):
            with pytest.raises(InvalidArgument):
                encode(pixels, media_type=media_type, quality=quality)


@pytest.mark.parametrize("media_type", ["image/gif", "image/heic", "text/plain", ""])
def test_other_formats_are_not_written(media_type: str) -> None:
    with pytest.raises(UnsupportedImage):
        encode(Pixels(photograph()), media_type=media_type)


@pytest.mark.parametrize(("media_type", "side"), [("image/webp", 16_384), ("image/jpeg", 65_536)])
def test_a_side_that_the_format_cannot_hold_is_refused(media_type: str, side: int) -> None:
    with pytest.raises(ImageTooLarge):
        encode(Pixels(np.zeros((1, side, 1), np.uint8)), media_type=media_type)


# libvips and numpy


def test_pixels_are_lent_to_libvips_without_a_copy() -> None:
    array = photograph().copy()
    image = as_vips(Pixels(array))
    array[0, 0] = (1, 2, 3)
    assert image.getpoint(0, 0) == [1, 2, 3]


def test_a_read_only_view_is_decoded_and_encoded() -> None:
    array = photograph().copy()
    array.flags.writeable = False
    encoded = encode(Pixels(array), media_type="image/png")
    np.testing.assert_array_equal(decode(memoryview(encoded)).array, array)


def test_one_pixel_survives_every_format() -> None:
    for media_type in ("image/jpeg", "image/png", "image/webp", "image/tiff"):
        encoded = encode(Pixels(np.full((1, 1, 3), 77, np.uint8)), media_type=media_type)
        assert error_of(decode(encoded, min_size=(9, 9)).array, np.full((1, 1, 3), 77)) <= 3
