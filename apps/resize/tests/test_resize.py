"""Resizing, against scikit-image and by its geometry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.transform import resize as untyped_resize

from imageflow_common.pixels import Affine, Pixels
from imageflow_resize.resize import FITS, GRAVITIES, KERNELS, Fit, Gravity, Kernel, resize, target_size

SMOOTH: tuple[Kernel, ...] = ("linear", "cubic", "mitchell", "lanczos2", "lanczos3")
sides = st.integers(1, 90)


def grey(height: int, width: int) -> Pixels:
    return Pixels(np.zeros((height, width, 1), np.uint8))


def scikit_resize(array: npt.NDArray[np.float64], shape: tuple[int, int], **options: float) -> npt.NDArray[np.float64]:
    resized = untyped_resize(array, shape, order=1, mode="edge", **options)  # type: ignore[no-untyped-call]
    return np.asarray(resized, np.float64)


def photograph(name: str) -> npt.NDArray[np.uint8]:
    """H×W×C."""
    array: npt.NDArray[np.uint8] = getattr(data, name)()
    return array if array.ndim == 3 else array[:, :, None]


def psnr(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Of images in 0…1, in decibels."""
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


@pytest.mark.parametrize(
    ("size_in", "options", "expected"),
    [
        ((1920, 1080), {}, (800, 450)),
        ((1080, 1920), {}, (338, 600)),
        ((640, 480), {}, (640, 480)),
        ((640, 480), {"enlarge": True}, (800, 600)),
        ((640, 480), {"maintain_aspect_ratio": False}, (800, 600)),
        ((1920, 1080), {"maintain_aspect_ratio": False, "fit": "cover"}, (800, 600)),
        ((1920, 1080), {"fit": "fill"}, (800, 600)),
        ((1920, 1080), {"fit": "cover"}, (800, 600)),
        ((1000, 300), {"fit": "cover"}, (800, 300)),
        ((1000, 300), {"fit": "cover", "enlarge": True}, (800, 600)),
        ((10_000, 1), {}, (800, 1)),
        ((1, 1), {}, (1, 1)),
        ((1, 1), {"enlarge": True}, (600, 600)),
    ],
)
def test_the_target_size_follows_from_the_size_and_the_box(
    size_in: tuple[int, int], options: dict[str, bool | Fit], expected: tuple[int, int]
) -> None:
    assert target_size(*size_in, **options) == expected  # type: ignore[arg-type]


@given(sides, sides, sides, sides, st.sampled_from(FITS), st.booleans(), st.booleans(), st.sampled_from(KERNELS))
@settings(max_examples=120, deadline=None)
def test_the_result_has_the_target_size_and_keeps_channels_and_dtype(
    w: int, h: int, width: int, height: int, fit: Fit, keep: bool, enlarge: bool, kernel: Kernel
) -> None:
    expected = target_size(w, h, width=width, height=height, fit=fit, maintain_aspect_ratio=keep, enlarge=enlarge)
    result = resize(
        grey(h, w),
        width=width,
        height=height,
        fit=fit,
        maintain_aspect_ratio=keep,
        enlarge=enlarge,
        kernel=kernel,
    )
    assert (result.width, result.height) == expected
    assert result.channels == 1
    assert result.dtype == "uint8"
    assert result.array.flags.c_contiguous


@given(sides, sides, sides, sides, st.sampled_from(("contain", "cover")))
def test_nothing_is_scaled_up_unless_asked(w: int, h: int, width: int, height: int, fit: Fit) -> None:
    size = target_size(w, h, width=width, height=height, fit=fit)
    assert size[0] <= min(w, width)
    assert size[1] <= min(h, height)


@given(sides, sides, sides, sides)
def test_contain_touches_the_box_or_leaves_the_image_alone(w: int, h: int, width: int, height: int) -> None:
    size = target_size(w, h, width=width, height=height)
    assert size == (w, h) or size[0] == width or size[1] == height


@given(sides, sides, sides, sides, st.booleans(), st.sampled_from(GRAVITIES))
def test_without_a_crop_the_corners_map_to_the_corners(
    w: int, h: int, width: int, height: int, keep: bool, gravity: Gravity
) -> None:
    result = resize(
        grey(h, w), width=width, height=height, maintain_aspect_ratio=keep, gravity=gravity, kernel="nearest"
    )
    corners = np.array([[0.0, 0.0], [result.width, result.height]])
    np.testing.assert_allclose(result.to_input.apply(corners), [[0, 0], [w, h]], atol=1e-9)


def blob(size: tuple[int, int], centre: tuple[float, float], *, sigma: float) -> Pixels:
    (width, height), (x, y) = size, centre
    columns, rows = np.arange(width) + 0.5 - x, np.arange(height)[:, None] + 0.5 - y
    values = np.exp(-(columns**2 + rows**2) / (2 * sigma**2))
    return Pixels(np.ascontiguousarray(values[:, :, None], dtype=np.float32))


def centre_of_mass(pixels: Pixels) -> npt.NDArray[np.float64]:
    values = pixels.array[:, :, 0].astype(np.float64)
    columns, rows = np.arange(pixels.width) + 0.5, np.arange(pixels.height)[:, None] + 0.5
    total = values.sum()
    return np.array([[(values * columns).sum() / total, (values * rows).sum() / total]])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("size", "box"),
    [((997, 613), (100, 77)), ((333, 205), (800, 600)), ((640, 481), (643, 77)), ((101, 77), (101, 300))],
)
@pytest.mark.parametrize("fit", FITS)
def test_a_marked_point_lands_where_to_input_says(
    kernel: Kernel, size: tuple[int, int], box: tuple[int, int], fit: Fit
) -> None:
    """Within 1/20 of a pixel of the result, or of the input where that is larger; half of one for nearest."""
    point = np.array([[size[0] * 0.47, size[1] * 0.53]])
    ratios = (size[0] / box[0], size[1] / box[1])
    across, down = {"contain": (max(ratios),) * 2, "cover": (min(ratios),) * 2, "fill": ratios}[fit]
    step = np.array([max(1.0, across), max(1.0, down)])
    marked = blob(size, (point[0, 0], point[0, 1]), sigma=2.5 * float(step.max()))
    before = Affine(2, 0, 5, 0, 3, 7)
    result = resize(Pixels(marked.array, before), width=box[0], height=box[1], fit=fit, enlarge=True, kernel=kernel)
    found = before.inverse().apply(result.to_input.apply(centre_of_mass(result)))
    tolerance = 0.5 if kernel == "nearest" else 0.05
    assert np.all(np.abs(found - point) <= tolerance * step)


@pytest.mark.parametrize("gravity", GRAVITIES)
def test_gravity_says_which_part_cover_keeps(gravity: Gravity) -> None:
    columns = np.tile(np.arange(60, dtype=np.uint8), (20, 1))[:, :, None]
    wide = resize(Pixels(columns), width=20, height=20, fit="cover", gravity=gravity)
    left = 0 if "west" in gravity else 40 if "east" in gravity else 20
    assert wide.array[0, 0, 0] == left
    assert wide.to_input == Affine.translation(left, 0)
    tall = resize(
        Pixels(np.ascontiguousarray(columns.transpose(1, 0, 2))),
        width=20,
        height=20,
        fit="cover",
        gravity=gravity,
    )
    top = 0 if "north" in gravity else 40 if "south" in gravity else 20
    assert tall.array[0, 0, 0] == top
    assert tall.to_input == Affine.translation(0, top)


@pytest.mark.parametrize("picture", ["astronaut", "coffee", "chelsea", "coins"])
@pytest.mark.parametrize(
    ("kernel", "decibels"),
    [("linear", 38), ("cubic", 41), ("mitchell", 39), ("lanczos2", 40), ("lanczos3", 37)],
)
def test_reducing_agrees_with_scikit_image(picture: str, kernel: Kernel, decibels: float) -> None:
    """scikit-image blurs by a Gaussian and interpolates, where we convolve: at least 37 to 41 dB at half
    size."""
    array = photograph(picture)
    height, width = array.shape[0] // 2, array.shape[1] // 2
    result = resize(Pixels(array), width=width, height=height, fit="fill", kernel=kernel)
    oracle = scikit_resize(array / 255, (height, width))
    assert psnr(result.array / 255, oracle) >= decibels


@pytest.mark.parametrize("picture", ["astronaut", "coffee", "coins"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_enlarging_linearly_is_bilinear_interpolation(picture: str, dtype: npt.DTypeLike) -> None:
    """Within 1.5 % of full scale of scikit-image's order 1, which has the same geometry; libvips rounds
    positions to 1/64 of a pixel."""
    array = photograph(picture)[:100, :150]
    full = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]  # type: ignore[index]
    source = np.ascontiguousarray(array.astype(np.float64) / 255 * full).astype(dtype)
    result = resize(Pixels(source), width=313, height=207, fit="fill", kernel="linear")
    oracle = scikit_resize(array / 255, (207, 313), anti_aliasing=False)
    assert np.abs(result.array / full - oracle).max() <= 0.015


def test_nearest_takes_the_pixel_under_the_centre() -> None:
    array = np.arange(5, dtype=np.uint8)[None, :, None]
    result = resize(Pixels(array), width=10, height=1, fit="fill", kernel="nearest")
    assert result.array.ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("kernel", SMOOTH)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 201), (np.uint16, 51_017), (np.float32, 0.8)])
@pytest.mark.parametrize("box", [(7, 5), (60, 50), (60, 5)])
def test_a_flat_image_stays_flat(
    kernel: Kernel, channels: int, dtype: npt.DTypeLike, value: float, box: tuple[int, int]
) -> None:
    array = np.full((31, 41, channels), value, dtype)
    if channels in (2, 4):
        array[:10, :, -1] = value / 2
    result = resize(Pixels(array), width=box[0], height=box[1], fit="fill", kernel=kernel)
    assert result.array.dtype == dtype
    np.testing.assert_allclose(result.array[:, :, 0], value, rtol=1e-5)


TAPS: dict[Kernel, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "linear": lambda x: np.maximum(0, 1 - np.abs(x)),
    "lanczos2": lambda x: np.sinc(x) * np.sinc(x / 2) * (np.abs(x) < 2),
    "lanczos3": lambda x: np.sinc(x) * np.sinc(x / 3) * (np.abs(x) < 3),
}


def reduction(source: int, target: int, kernel: Kernel) -> npt.NDArray[np.float64]:
    """The weights of the definition: one row per pixel of the result, edges repeated."""
    factor, pad = source / target, 4 * -(-source // target)
    centres = (np.arange(target)[:, None] + 0.5) * factor
    taps = TAPS[kernel]((np.arange(-pad, source + pad) + 0.5 - centres) / factor)
    weights = taps[:, pad:-pad].copy()
    weights[:, 0] += taps[:, :pad].sum(axis=1)
    weights[:, -1] += taps[:, -pad:].sum(axis=1)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)


@pytest.mark.parametrize("kernel", list(TAPS))
@pytest.mark.parametrize(
    ("dtype", "full", "tolerance"), [("uint8", 255, 9), ("uint16", 65_535, 400), ("float32", 1, 0.006)]
)
@pytest.mark.parametrize("box", [(300, 200), (173, 97), (40, 26)])
def test_reducing_is_convolution_with_the_kernel(
    kernel: Kernel, dtype: str, full: float, tolerance: float, box: tuple[int, int]
) -> None:
    """Within 0.6 % of full scale, as libvips rounds positions to 1/64 of a pixel; bytes within 9 levels at
    hard edges, since they are kept in range between the two passes, and one level on the average."""
    array = (photograph("coffee")[:399, :599] / 255 * full).astype(dtype)
    result = resize(Pixels(array), width=box[0], height=box[1], fit="fill", kernel=kernel)
    down, across = reduction(399, box[1], kernel), reduction(599, box[0], kernel)
    oracle = np.einsum("ij,jkc,lk->ilc", down, array.astype(np.float64), across, optimize=True)
    if dtype != "float32":
        oracle = np.clip(oracle, 0, full)
    difference = np.abs(result.array - oracle)
    assert difference.max() <= tolerance
    assert difference.mean() <= 0.004 * full


@pytest.mark.parametrize("width", [801, 1333, 1920, 4000])
@pytest.mark.parametrize("target", [800, 640, 500])
@pytest.mark.parametrize(
    ("kernel", "lost"), [("cubic", 0), ("lanczos2", 0), ("mitchell", 1), ("linear", 2), ("lanczos3", 2)]
)
def test_white_stays_white(width: int, target: int, kernel: Kernel, lost: int) -> None:
    """Exactly, or within the levels that each kernel is known to lose, up to a factor of 8."""
    white = Pixels(np.full((40, width, 3), 255, np.uint8))
    assert resize(white, width=target, height=5, fit="fill", kernel=kernel).array.min() >= 255 - lost


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65_535), (np.float32, 1.0)])
def test_what_is_transparent_does_not_bleed(dtype: npt.DTypeLike, full: float) -> None:
    array = np.zeros((40, 40, 4), dtype)
    array[:, :20, 1] = full
    array[:, 20:, 0] = full
    array[:, 20:, 3] = full
    result = resize(Pixels(array), width=9, height=9, fit="fill", kernel="linear")
    seen = result.array[result.array[:, :, 3] > 0.02 * full]
    assert seen[:, 0].min() >= 0.98 * full
    assert seen[:, 1].max() <= 0.02 * full


def test_nothing_to_do_gives_the_same_pixels() -> None:
    pixels = grey(60, 80)
    assert resize(pixels) is pixels


def test_the_size_does_not_depend_on_shrinking_while_decoding() -> None:
    """3001×2003 fits 797×600 as 797×532; half of it, rounded up, is of another shape."""
    shrunk = grey(1002, 1501)
    result = resize(shrunk, width=797, height=600, full_size=(3001, 2003))
    assert (result.width, result.height) == target_size(3001, 2003, width=797, height=600)


@pytest.mark.parametrize("kernel", SMOOTH)
def test_an_extreme_reduction_is_the_mean(kernel: Kernel) -> None:
    array = np.tile(np.array([[[0.0], [1.0]]], np.float32), (3, 20_000, 1))
    result = resize(Pixels(array), width=2, height=1, fit="fill", kernel=kernel)
    np.testing.assert_allclose(result.array, 0.5, atol=0.01)


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_pixel_becomes_any_size(kernel: Kernel) -> None:
    result = resize(Pixels(np.full((1, 1, 3), 9, np.uint8)), width=5, height=300, fit="fill", kernel=kernel)
    assert result.array.shape == (300, 5, 3)
    assert np.all(result.array == 9)


def test_a_read_only_image_is_resized_and_left_as_it_is() -> None:
    array = photograph("coins").copy()
    array.flags.writeable = False
    assert resize(Pixels(array), width=100, height=100).width == 100
    np.testing.assert_array_equal(array, photograph("coins"))


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1×1"):
        target_size(10, 10, width=0)
