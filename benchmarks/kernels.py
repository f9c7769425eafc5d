"""Compares the kernels that were considered, and prints what each costs and how far it is from scikit-image.

    python benchmarks/kernels.py [--repeats 7]

The one in use is marked. Milliseconds are medians of one thread on one photograph, `coffee`, at 800×600
unless the task says otherwise; the difference from scikit-image is in levels of 255, largest and mean. For
`denoise` it is the difference from the photograph before noise was added.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import data, filters, restoration, transform

from imageflow_common.images import array_as_vips, decode, encode, from_vips
from imageflow_common.pixels import Pixels
from imageflow_filter.filters import FILTERS
from imageflow_filter.filters.denoise import STEPS
from imageflow_resize.resize import KERNELS, Kernel, resize

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """`oracle` is what the result is compared with, in levels of 255; None where there is none."""

    task: str
    name: str
    run: Callable[[], Any]
    oracle: Array | None = None
    used: bool = False


def scikit(function: Any, *arguments: Any, **options: Any) -> Array:
    """scikit-image has no types of its own."""
    return np.asarray(function(*arguments, **options))


def photograph(width: int, height: int) -> Array:
    resized = scikit(transform.resize, getattr(data, "coffee")(), (height, width), order=3)  # noqa: B009
    return np.asarray(np.rint(np.clip(resized, 0, 1) * 255), np.uint8)


def noisy(array: Array, deviation: float) -> Array:
    noise = np.random.default_rng(0).normal(0, deviation * 255, array.shape)
    return np.asarray(np.rint(np.clip(array + noise, 0, 255)), np.uint8)


def ours(name: str, array: Array, intensity: float) -> Callable[[], Any]:
    return partial(FILTERS[name].apply, array, intensity)


def vips(array: Array, operation: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    """The operation of libvips, from array to array."""
    return lambda: from_vips(getattr(array_as_vips(array), operation)(*arguments, **options))


def codecs() -> Iterator[Candidate]:
    full, small = Pixels(photograph(1920, 1080)), Pixels(photograph(800, 450))
    jpeg = encode(full, media_type="image/jpeg")
    large = encode(Pixels(photograph(4000, 3000)), media_type="image/jpeg")
    yield Candidate("decode", "JPEG 1080p", partial(decode, jpeg), used=True)
    yield Candidate("decode", "JPEG 1080p for 800×450", partial(decode, jpeg, min_size=(800, 450)), used=True)
    yield Candidate("decode", "JPEG 12 MP", partial(decode, large), used=True)
    yield Candidate("decode", "JPEG 12 MP for 800×600", partial(decode, large, min_size=(800, 600)), used=True)
    for media_type in ("image/jpeg", "image/png", "image/webp", "image/tiff"):
        yield Candidate("encode 800×450", media_type, partial(encode, small, media_type=media_type), used=True)
    image = array_as_vips(small.array)
    for compression, row_filter in itertools.product((1, 6), ("none", "up", "paeth")):
        options = {"compression": compression, "filter": row_filter, "keep": "none"}
        name = f"image/png {compression} {row_filter}"
        yield Candidate("encode 800×450", name, partial(image.pngsave_buffer, **options))


def resized(array: Array, kernel: Kernel) -> Array:
    return resize(Pixels(array), kernel=kernel).array


def resizing() -> Iterator[Candidate]:
    task, full = "resize 1080p to 800", photograph(1920, 1080)
    reference = partial(scikit, transform.resize, full, (450, 800), order=1, preserve_range=True)
    oracle = reference()
    for kernel in KERNELS:
        run = partial(resized, full, kernel)
        yield Candidate(task, kernel, run, oracle, kernel == "cubic")
    for gap in (0, 2):
        yield Candidate(task, f"libvips resize, gap {gap}", vips(full, "resize", 800 / 1920, gap=gap), oracle)
    yield Candidate(task, "scikit-image", reference)


def blurring(array: Array) -> Iterator[Candidate]:
    for sigma in (1.0, 3.0, 10.0):
        task = f"gaussian {sigma:g}"
        options = {"mode": "nearest", "channel_axis": 2, "preserve_range": True}
        reference = partial(scikit, filters.gaussian, array, sigma, **options)
        oracle = reference()
        yield Candidate(task, "exact integer weights", ours("gaussian", array, sigma), oracle, True)
        for precision, least in (("integer", 0.2), ("integer", 0.002), ("float", 0.002)):
            run = vips(array, "gaussblur", sigma, precision=precision, min_ampl=least)
            yield Candidate(task, f"libvips gaussblur {precision} {least}", run, oracle)
        yield Candidate(task, "scikit-image", reference)


def ranking(array: Array) -> Iterator[Candidate]:
    reference = partial(ndimage.median_filter, array, size=(3, 3, 1), mode="nearest")
    oracle = reference()
    yield Candidate("median 1", "exchanges in bands", ours("median", array, 1), oracle, True)
    yield Candidate("median 1", "libvips rank", vips(array, "median", 3), oracle)
    yield Candidate("median 1", "scipy", reference)
    for radius in (2, 5):
        yield Candidate(f"median {radius}", "libvips rank", ours("median", array, radius), used=True)


def edging(array: Array) -> Iterator[Candidate]:
    def reference() -> Array:
        return 255 * np.dstack([scikit(filters.sobel, array[:, :, channel] / 255) for channel in range(3)])

    oracle = reference()
    yield Candidate("edges", "numpy in bands", ours("edges", array, 1.0), oracle, True)
    yield Candidate("edges", "libvips sobel", vips(array, "sobel"), oracle)
    yield Candidate("edges", "scikit-image", reference)


def points(array: Array) -> Iterator[Candidate]:
    options = {"radius": 1, "amount": 1, "channel_axis": 2, "preserve_range": True}
    reference = partial(scikit, filters.unsharp_mask, array, **options)
    oracle = np.clip(reference(), 0, 255)
    yield Candidate("unsharp 1", "on the integer blur", ours("unsharp", array, 1.0), oracle, True)
    yield Candidate("unsharp 1", "scikit-image", reference)
    for name in ("grayscale", "invert", "contrast"):
        yield Candidate(name, "numpy", ours(name, array, 1.0), used=True)


def denoising(array: Array) -> Iterator[Candidate]:
    task, grainy = "denoise 4", noisy(array, 0.04)
    floats = grainy.astype(np.float32)
    yield Candidate(task, "none", lambda: grainy, array)
    yield Candidate(task, f"total variation, {STEPS} steps", ours("denoise", grainy, 4.0), array, True)
    variation = {"weight": 0.04 * 255, "eps": 0, "channel_axis": 2}
    for steps in (STEPS + 1, 50):
        run = partial(scikit, restoration.denoise_tv_chambolle, floats, max_num_iter=steps, **variation)
        yield Candidate(task, f"scikit-image total variation, {steps}", run, array)
    yield Candidate(task, "median 1", ours("median", grainy, 1.0), array)
    yield Candidate(task, "gaussian 1", ours("gaussian", grainy, 1.0), array)
    means = {"patch_size": 5, "patch_distance": 5, "h": 8.2, "sigma": 10.2, "channel_axis": 2}
    run = partial(scikit, restoration.denoise_nl_means, floats, preserve_range=True, **means)
    yield Candidate(task, "scikit-image non-local means", run, array)


def measure(candidate: Candidate, repeats: int) -> str:
    result = candidate.run()
    times: list[float] = []
    while len(times) < repeats and sum(times) < 2.0:
        start = time.perf_counter()
        candidate.run()
        times.append(time.perf_counter() - start)
    mark = "*" if candidate.used else " "
    line = f"{candidate.task:20} {mark} {candidate.name:36} {1000 * statistics.median(times):9.2f} ms"
    if candidate.oracle is None:
        return line
    difference = np.abs(result.astype(np.float64) - candidate.oracle)
    return f"{line}  {difference.max():7.2f} {difference.mean():6.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    array = photograph(800, 600)
    tasks = (task(array) for task in (blurring, ranking, edging, points, denoising))
    print(f"{'task':20}   {'candidate (* in use)':36} {'median':>12}  {'largest':>7} {'mean':>6}")
    for candidate in itertools.chain(codecs(), resizing(), *tasks):
        print(measure(candidate, repeats), flush=True)


if __name__ == "__main__":
    main()
