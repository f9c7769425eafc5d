"""The filters, with scikit-image as the oracle, on real photographs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import color, data, exposure, filters, restoration, util

from imageflow_common.pixels import PixelArray
from imageflow_filter.filters import FILTERS
from imageflow_filter.filters.denoise import STEPS
from imageflow_filter.filters.gaussian import integer_weights

FULL = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
DTYPES = tuple(FULL)
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "coins")
Floats = npt.NDArray[np.float64]


def scikit(function: Any, *arguments: Any, **options: Any) -> Floats:
    """scikit-image has no types of its own."""
    return np.asarray(function(*arguments, **options), np.float64)


def scikit_gaussian(array: PixelArray, sigma: float) -> Floats:
    return scikit(filters.gaussian, unit(array), sigma, mode="nearest", channel_axis=2)


def photograph(name: str, dtype: str = "uint8") -> PixelArray:
    """H×W×C, 200 rows of it."""
    array: npt.NDArray[Any] = np.ascontiguousarray(getattr(data, name)()[100:300])
    array = array if array.ndim == 3 else array[:, :, None]
    if dtype == "uint8":
        return array
    scaled = array / 255 * FULL[dtype]
    result: PixelArray = (scaled if dtype == "float32" else np.rint(scaled)).astype(dtype)
    return result


def difference(result: PixelArray, oracle: Floats) -> Floats:
    """From the oracle in 0…1, in levels of 255; integers are compared after keeping the oracle in range."""
    kept = oracle if result.dtype == np.float32 else np.clip(oracle, 0, 1)
    return np.asarray(np.abs(result / FULL[result.dtype.name] - kept) * 255, np.float64)


def unit(array: PixelArray) -> Floats:
    return np.asarray(array / FULL[array.dtype.name], np.float64)


def per_channel(function: Any, array: Floats) -> Floats:
    return np.dstack([function(array[:, :, channel]) for channel in range(array.shape[2])])


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 1.7, 3.0, 12.0])
def test_gaussian_of_bytes_is_within_4_levels_of_scikit_image(name: str, sigma: float) -> None:
    """At the hardest edges; 0.4 on the average."""
    array = photograph(name)
    oracle = scikit_gaussian(array, sigma)
    found = difference(FILTERS["gaussian"].apply(array, sigma), oracle)
    assert found.max() <= 4.0
    assert found.mean() <= 0.4


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0, 5.0])
def test_gaussian_of_noise_is_within_6_levels_and_keeps_the_mean(sigma: float) -> None:
    array = np.random.default_rng(7).integers(0, 256, (200, 300, 3), np.uint8)
    blurred = FILTERS["gaussian"].apply(array, sigma)
    oracle = scikit_gaussian(array, sigma)
    assert difference(blurred, oracle).max() <= 6.0
    assert abs(blurred.mean() / 255 - oracle.mean()) * 255 <= 0.05


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_gaussian_of_deep_images_is_that_of_scikit_image(dtype: str, sigma: float) -> None:
    array = photograph("coffee", dtype)
    oracle = scikit_gaussian(array, sigma)
    assert difference(FILTERS["gaussian"].apply(array, sigma), oracle).max() <= 0.01


@given(st.floats(0.01, 100))
@settings(deadline=None)
def test_integer_weights_add_up_to_a_power_of_two(sigma: float) -> None:
    weights = integer_weights(sigma)
    total = int(weights.sum())
    assert total & (total - 1) == 0
    assert weights.min() >= 0
    assert weights.max() <= 64
    np.testing.assert_array_equal(weights, weights[::-1])


@given(st.floats(0.8, 100))
@settings(deadline=None)
def test_integer_weights_spread_as_sigma_says(sigma: float) -> None:
    weights = integer_weights(sigma)
    offsets = np.arange(len(weights)) - len(weights) // 2
    spread = float(np.sqrt((weights * offsets**2).sum() / weights.sum()))
    assert spread == pytest.approx(sigma, rel=0.04)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("radius", [1, 2, 3])
def test_median_is_exact(dtype: str, radius: int) -> None:
    array = photograph("chelsea", dtype)[:60, :80].copy()
    side = 2 * radius + 1
    oracle = ndimage.median_filter(array, size=(side, side, 1), mode="nearest")
    np.testing.assert_array_equal(FILTERS["median"].apply(array, radius), oracle)


@pytest.mark.parametrize(("intensity", "radius"), [(0.49, 0), (0.5, 1), (1.49, 1), (1.5, 2)])
def test_the_radius_of_the_median_is_rounded_half_up(intensity: float, radius: int) -> None:
    array = photograph("coins")
    apply = FILTERS["median"].apply
    np.testing.assert_array_equal(apply(array, intensity), apply(array, radius))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("amount", [0.5, 1.0, 3.0])
def test_unsharp_of_bytes_agrees_with_scikit_image(name: str, amount: float) -> None:
    """Within 0.5 + 2.5·amount levels; the border is left out, where scikit-image mirrors and we repeat."""
    array = photograph(name)
    oracle = scikit(filters.unsharp_mask, unit(array), radius=1, amount=amount, channel_axis=2)
    found = difference(FILTERS["unsharp"].apply(array, amount), oracle)
    assert found[4:-4, 4:-4].max() <= 0.5 + 2.5 * amount


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_unsharp_of_deep_images_is_that_of_scikit_image(dtype: str) -> None:
    array = photograph("astronaut", dtype)
    oracle = unit(array) + 1.5 * (unit(array) - scikit_gaussian(array, 1))
    assert difference(FILTERS["unsharp"].apply(array, 1.5), oracle).max() <= 0.02


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_edges_are_sobel_magnitudes(name: str, dtype: str, gain: float) -> None:
    """Within half a level, which is rounding; at the border too."""
    array = photograph(name, dtype)
    oracle = gain * per_channel(filters.sobel, unit(array))
    assert difference(FILTERS["edges"].apply(array, gain), oracle).max() <= 0.51


@pytest.mark.parametrize("dtype", DTYPES)
def test_grayscale_is_the_luma_of_scikit_image(dtype: str) -> None:
    array = photograph("astronaut", dtype)
    gray = FILTERS["grayscale"].apply(array, 1.0)
    oracle = scikit(color.rgb2gray, unit(array))[:, :, None]
    assert difference(gray, oracle).max() <= 0.51
    half = FILTERS["grayscale"].apply(array, 0.5)
    assert difference(half, (unit(array) + oracle) / 2).max() <= 0.51


@pytest.mark.parametrize("dtype", DTYPES)
def test_invert_is_that_of_scikit_image(dtype: str) -> None:
    array = photograph("coffee", dtype)
    negative: PixelArray = util.invert(array)  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(FILTERS["invert"].apply(array, 1.0), negative)
    assert difference(FILTERS["invert"].apply(array, 0.25), 0.25 + unit(array) * 0.5).max() <= 0.51


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("change", [-1.0, -0.5, 1.0, 4.0])
def test_contrast_scales_the_distance_from_middle_grey(dtype: str, change: float) -> None:
    array = photograph("chelsea", dtype)
    oracle = (unit(array) - 0.5) * (1 + change) + 0.5
    assert difference(FILTERS["contrast"].apply(array, change), oracle).max() <= 0.51


def test_raising_contrast_is_rescaling_intensity() -> None:
    array = photograph("coins")
    oracle = scikit(exposure.rescale_intensity, unit(array), in_range=(0.25, 0.75), out_range=(0, 1))
    assert difference(FILTERS["contrast"].apply(array, 1.0), oracle).max() <= 0.51


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["astronaut", "coins"])
@pytest.mark.parametrize("noise", [1.0, 10.0])
def test_denoise_is_total_variation(dtype: str, name: str, noise: float) -> None:
    array = photograph(name, dtype)
    options = {"eps": 0, "max_num_iter": STEPS + 1, "channel_axis": 2}
    oracle = scikit(restoration.denoise_tv_chambolle, unit(array), weight=noise / 100, **options)
    assert difference(FILTERS["denoise"].apply(array, noise), oracle).max() <= 0.52


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
@pytest.mark.parametrize(("noise", "decibels"), [(2, 0.7), (4, 2.5), (10, 6.0)])
def test_denoise_comes_closer_to_the_clean_image(name: str, noise: int, decibels: float) -> None:
    """The photographs are sharp to the pixel: part of what is smoothed away is theirs."""
    clean = unit(photograph(name))
    noisy = clean + np.random.default_rng(1).normal(0, noise / 100, clean.shape)
    array = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    before = np.mean((unit(array) - clean) ** 2)
    after = np.mean((unit(FILTERS["denoise"].apply(array, noise)) - clean) ** 2)
    assert 10 * np.log10(before / after) >= decibels


ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4)),
        elements=st.floats(0, 1, width=32) if dtype == "float32" else None,
    )
)


@given(ARRAYS, st.sampled_from(sorted(FILTERS)), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_shape_dtype_alpha_and_input_are_kept(array: PixelArray, name: str, share: float) -> None:
    filter_ = FILTERS[name]
    before = array.copy()
    array.flags.writeable = False
    intensity = filter_.minimum + share * (filter_.maximum - filter_.minimum)
    result = filter_.apply(array, intensity)
    assert result.shape == array.shape
    assert result.dtype == array.dtype
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(array, before)
    if array.shape[2] in (2, 4):
        np.testing.assert_array_equal(result[:, :, -1], array[:, :, -1])


@pytest.mark.parametrize("name", sorted(set(FILTERS) - {"edges"}))
@pytest.mark.parametrize("dtype", DTYPES)
def test_intensity_0_changes_nothing(name: str, dtype: str) -> None:
    array = photograph("astronaut", dtype)
    np.testing.assert_array_equal(FILTERS[name].apply(array, 0.0), array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges_at_intensity_0_are_black(dtype: str) -> None:
    assert not FILTERS["edges"].apply(photograph("coins", dtype), 0.0).any()


@pytest.mark.parametrize("name", ["gaussian", "median", "unsharp", "denoise"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 1), (40, 50)])
def test_a_flat_image_stays_flat(name: str, dtype: str, size: tuple[int, int]) -> None:
    array = np.full((*size, 3), FULL[dtype], dtype)
    for intensity in (1.0, FILTERS[name].maximum):
        np.testing.assert_allclose(FILTERS[name].apply(array, intensity), array, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_every_filter_says_what_its_intensity_means(name: str) -> None:
    filter_ = FILTERS[name]
    assert filter_.name == name
    assert filter_.minimum <= 1.0 <= filter_.maximum, "the default intensity must be allowed"
    assert filter_.summary.endswith(".")
    assert filter_.intensity_meaning
