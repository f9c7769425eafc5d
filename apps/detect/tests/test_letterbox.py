from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageflow_common.pixels import Pixels
from imageflow_detect.letterbox import FULL_SCALE, Placement, letterbox
from imageflow_detect.toy_models import manifest_of

GREY = 114 / 255


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_marked_point_maps_back_within_a_pixel(data: st.DataObject) -> None:
    """The centre of mass of a bright square, found in the tensor, is where it was in the picture."""
    width, height = data.draw(st.integers(40, 300)), data.draw(st.integers(40, 300))
    side = max(width, height) // 8 + 2
    x, y = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
    array = np.zeros((height, width, 3), np.uint8)
    array[y : y + side, x : x + side] = 255
    boxed = letterbox(
        Pixels(array),
        manifest_of(input={"letterbox_colour": [0, 0, 0], "size": {"width": 160, "height": 96}}),
    )
    weights = boxed.tensor[0, 0].astype(np.float64)
    rows, across = np.mgrid[0:96, 0:160] + 0.5
    centre = np.array([[(weights * across).sum(), (weights * rows).sum()]]) / weights.sum()
    np.testing.assert_allclose(boxed.to_pixels.apply(centre), [[x + side / 2, y + side / 2]], atol=1.0)


@given(*[st.integers(1, 5000)] * 4)
def test_the_picture_always_fits_and_touches_two_edges(
    width: int, height: int, into_width: int, into_height: int
) -> None:
    place = Placement.fit(width, height, into_width=into_width, into_height=into_height)
    assert place.left >= 0
    assert place.top >= 0
    assert place.left + place.width <= into_width
    assert place.top + place.height <= into_height
    assert place.width == into_width or place.height == into_height


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("width", "height"), [(64, 32), (200, 100), (20, 10)])
def test_every_kind_of_pixels_gives_the_same_tensor(dtype: str, channels: int, width: int, height: int) -> None:
    """One grey, opaque, in whatever form: that grey inside, the letterbox's above and below."""
    full = FULL_SCALE[dtype]
    array = np.full((height, width, channels), 0.6 * full, np.float64).astype(dtype)
    if channels in (2, 4):
        array[:, :, -1] = full
    array.flags.writeable = False
    tensor = letterbox(Pixels(array), manifest_of()).tensor
    assert tensor.shape == (1, 3, 64, 64)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor[:, :, 16:48], 0.6, atol=0.003)
    np.testing.assert_allclose(tensor[:, :, :16], GREY, atol=1e-6)
    np.testing.assert_allclose(tensor[:, :, 48:], GREY, atol=1e-6)


def test_what_is_transparent_is_letterbox_grey() -> None:
    array = np.zeros((50, 50, 4), np.uint8)
    array[..., 0] = 255
    np.testing.assert_allclose(letterbox(Pixels(array), manifest_of()).tensor, GREY, atol=0.003)


def test_colour_order_and_normalisation_are_the_manifests() -> None:
    array = np.zeros((64, 64, 3), np.uint8)
    array[...] = 51, 102, 204
    normalisation = {"scale": "1/255", "mean": [0.1, 0.2, 0.3], "std": [0.5, 1, 2]}
    manifest = manifest_of(input={"colour_order": "bgr", "normalisation": normalisation})
    tensor = letterbox(Pixels(array), manifest).tensor
    np.testing.assert_allclose(tensor[0, :, 5, 5], [(0.8 - 0.1) / 0.5, 0.4 - 0.2, (0.2 - 0.3) / 2], atol=1e-6)


def test_the_surround_has_the_manifests_colour() -> None:
    array = np.zeros((32, 64, 4), np.uint8)
    for order, expected in (("rgb", [1, 0.6, 0.2]), ("bgr", [0.2, 0.6, 1])):
        manifest = manifest_of(input={"colour_order": order, "letterbox_colour": [255, 153, 51]})
        tensor = letterbox(Pixels(array), manifest).tensor
        np.testing.assert_allclose(tensor[0, :, 2, 2], expected, atol=1e-6)
        np.testing.assert_allclose(tensor[0, :, 30, 30], expected, atol=1e-6)


def test_a_bad_float_does_not_spread() -> None:
    array = np.full((128, 128, 1), 0.5, np.float32)
    array[10, 10], array[100, 100], array[50, 50] = np.nan, np.inf, -np.inf
    tensor = letterbox(Pixels(array), manifest_of()).tensor
    assert np.isfinite(tensor).all()
    assert tensor.min() >= 0
    assert tensor.max() <= 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 3000), (3000, 1)])
def test_the_thinnest_picture_has_a_pixel(width: int, height: int) -> None:
    array = np.full((height, width, 3), 255, np.uint8)
    assert letterbox(Pixels(array), manifest_of()).tensor.max() == pytest.approx(1.0, abs=0.015)


def test_a_network_of_bytes_sees_the_picture_as_it_is() -> None:
    array = np.arange(64 * 64 * 3, dtype=np.uint16).reshape(64, 64, 3) * 5
    tensor = letterbox(Pixels(array), manifest_of(input={"type": "uint8", "colour_order": "bgr"})).tensor
    assert tensor.dtype == np.uint8
    np.testing.assert_array_equal(tensor[0].transpose(1, 2, 0)[..., ::-1], np.rint(array / 257).astype(np.uint8))


def test_a_stretched_picture_fills_the_input() -> None:
    array = np.zeros((30, 90, 3), np.uint8)
    array[:15, 45:] = 255
    boxed = letterbox(Pixels(array), manifest_of(input={"fit": "stretch"}))
    assert boxed.to_pixels.apply(np.array([[64.0, 64.0]])).tolist() == [[90, 30]]
    np.testing.assert_allclose(boxed.tensor[0, :, 10, 10], 0, atol=0.01)
    np.testing.assert_allclose(boxed.tensor[0, :, 10, 50], 1, atol=0.01)
    np.testing.assert_allclose(boxed.tensor[0, :, 50, 50], 0, atol=0.01)


@pytest.mark.parametrize("side", [40, 50, 64, 100, 900])
def test_a_ramp_stays_where_it_is(side: int) -> None:
    """Enlarged or reduced, the value under each of the network's pixels is the picture's at that place."""
    ramp = np.linspace(0, 1, side, dtype=np.float32)
    tensor = letterbox(Pixels(np.broadcast_to(ramp[None, :, None], (side, side, 1)).copy()), manifest_of()).tensor
    places = (np.arange(64) + 0.5) * side / 64 - 0.5
    np.testing.assert_allclose(tensor[0, 0, 32, 2:-2], np.interp(places, np.arange(side), ramp)[2:-2], atol=0.002)
