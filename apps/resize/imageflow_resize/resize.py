"""Resizing: pixels to pixels, and where each of them came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from imageflow_common.images.vips import array_as_vips, from_vips, pyvips
from imageflow_common.pixels import Affine, PixelArray, Pixels

Fit = Literal["contain", "cover", "fill"]
Gravity = Literal["center", "north", "south", "east", "west", "northeast", "northwest", "southeast", "southwest"]
Kernel = Literal["nearest", "linear", "cubic", "mitchell", "lanczos2", "lanczos3"]
Size = tuple[int, int]

FITS: Final[tuple[Fit, ...]] = get_args(Fit)
GRAVITIES: Final[tuple[Gravity, ...]] = get_args(Gravity)
KERNELS: Final[tuple[Kernel, ...]] = get_args(Kernel)

DEFAULT_WIDTH: Final = 800
DEFAULT_HEIGHT: Final = 600

_LARGEST_REDUCTION: Final = 256
"""libvips bounds the taps of a kernel at 2000; a larger reduction is done in passes."""

_MAX_ALPHA: Final = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


@dataclass(frozen=True, slots=True)
class _Plan:
    """The whole image becomes `scaled`, of which the rectangle of `size` at `left`, `top` is the result."""

    scaled: Size
    size: Size
    left: int = 0
    top: int = 0


def target_size(
    width_in: int,
    height_in: int,
    *,
    width: int = DEFAULT_WIDTH,
    height: int = DEFAULT_HEIGHT,
    maintain_aspect_ratio: bool = True,
    fit: Fit = "contain",
    enlarge: bool = False,
) -> Size:
    """The (width, height) that `resize` gives for an image of this size; sides are rounded half up, at least
    1.

    A decoder may deliver anything that is at least this large in both: `decode(...,
    min_size=target_size(...))`.

    - `contain`: the largest size of the same shape inside the box.
    - `cover`: the box, filled by an image of the same shape, of which what sticks out is cut off.
    - `fill`, or any `fit` when `maintain_aspect_ratio` is false: exactly the box, stretched; enlarged if need
      be, whatever `enlarge` says, because the size was asked for exactly.

    Without `enlarge`, contain and cover never scale up: a smaller image stays as it is, and cover cuts it to
    the box where it is larger."""
    size_in = (width_in, height_in)
    return _plan(size_in, (width, height), _effective(fit, maintain_aspect_ratio), "center", enlarge).size


def resize(
    pixels: Pixels,
    *,
    width: int = DEFAULT_WIDTH,
    height: int = DEFAULT_HEIGHT,
    maintain_aspect_ratio: bool = True,
    fit: Fit = "contain",
    gravity: Gravity = "center",
    kernel: Kernel = "cubic",
    enlarge: bool = False,
    full_size: Size | None = None,
) -> Pixels:
    """The image at `target_size`, of the same channels and dtype; the same object where nothing changes.

    `gravity` says which part of the image `cover` keeps. `full_size` is the (width, height) of the image
    before it was shrunk by the decoder; the result's size is worked out from it, and so does not depend on
    how the image was decoded. `to_input` is composed exactly: the edges of the image are mapped to the edges
    of the result.

    Reducing convolves with `kernel`, stretched by the factor (libvips `reduce`); enlarging interpolates:
    `linear` bilinearly, every other by Catmull-Rom (libvips `affine`); `nearest` takes the pixel under each
    centre. It works on the values as they are, not in linear light: four times faster, and what browsers do.
    Colour is weighted by alpha, so that what is transparent does not bleed. Integers are rounded and kept in
    range; floats may overshoot.

    libvips reduces bytes with weights of 12 bits. `cubic` and `lanczos2` keep white white up to a factor of
    20; `linear` and `lanczos3` lose up to 2 of 255 levels by a factor of 8, `mitchell` one."""
    size_in = full_size or (pixels.width, pixels.height)
    plan = _plan(size_in, (width, height), _effective(fit, maintain_aspect_ratio), gravity, enlarge)
    if plan.scaled == plan.size == (pixels.width, pixels.height):
        return pixels
    array = _nearest(pixels.array, plan) if kernel == "nearest" else _resampled(pixels, plan, kernel)
    return Pixels(array, pixels.to_input @ _to_source(pixels, plan))


def _effective(fit: Fit, maintain_aspect_ratio: bool) -> Fit:
    return fit if maintain_aspect_ratio else "fill"


def _plan(size_in: Size, box: Size, fit: Fit, gravity: Gravity, enlarge: bool) -> _Plan:
    if min(*size_in, *box) < 1:
        raise ValueError(f"sizes must be at least 1×1, got {size_in} into {box}")
    if fit == "fill":
        return _Plan(box, box)
    scaled = _same_shape(size_in, box, outside=fit == "cover")
    if not enlarge and (scaled[0] > size_in[0] or scaled[1] > size_in[1]):
        scaled = size_in
    if fit == "contain":
        return _Plan(scaled, scaled)
    size = (min(box[0], scaled[0]), min(box[1], scaled[1]))
    across = _share(gravity, before="west", after="east")
    down = _share(gravity, before="north", after="south")
    return _Plan(scaled, size, (scaled[0] - size[0]) * across // 2, (scaled[1] - size[1]) * down // 2)


def _same_shape(size: Size, box: Size, *, outside: bool) -> Size:
    """The size of the same shape that touches the box from the inside, or from the outside."""
    width, height = size
    width_decides = (box[0] * height <= box[1] * width) != outside
    if width_decides:
        return box[0], max(1, _rounded(height * box[0], width))
    return max(1, _rounded(width * box[1], height)), box[1]


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _share(gravity: Gravity, *, before: str, after: str) -> int:
    """How many halves of what is cut off are cut before the result: 0, 1 or 2."""
    if before in gravity:
        return 0
    return 2 if after in gravity else 1


def _to_source(pixels: Pixels, plan: _Plan) -> Affine:
    scale = Affine.scale(pixels.width / plan.scaled[0], pixels.height / plan.scaled[1])
    return scale @ Affine.translation(plan.left, plan.top)


def _nearest(array: PixelArray, plan: _Plan) -> PixelArray:
    rows = _nearest_indices(array.shape[0], plan.scaled[1], plan.top, plan.size[1])
    columns = _nearest_indices(array.shape[1], plan.scaled[0], plan.left, plan.size[0])
    return array.take(rows, axis=0).take(columns, axis=1)


def _nearest_indices(source: int, scaled: int, start: int, count: int) -> npt.NDArray[np.int64]:
    centres = 2 * np.arange(start, start + count, dtype=np.int64) + 1
    return cast(npt.NDArray[np.int64], centres * source // (2 * scaled))


def _resampled(pixels: Pixels, plan: _Plan, kernel: Kernel) -> PixelArray:
    image = array_as_vips(pixels.array)
    if _is_translucent(pixels):
        max_alpha = _MAX_ALPHA[pixels.dtype]
        marked = image.copy(interpretation="b-w" if pixels.channels == 2 else "srgb")
        weighted = marked.premultiply(max_alpha=max_alpha)
        scaled = _cut(_scale(weighted, plan.scaled, kernel), plan).unpremultiply(max_alpha=max_alpha)
    elif pixels.dtype == "uint16":
        # For integers libvips has weights of 12 bits, which is too coarse for 16.
        scaled = _cut(_scale(image.cast("float"), plan.scaled, kernel), plan)
    else:
        scaled = _cut(_scale(image, plan.scaled, kernel), plan)
    return from_vips(scaled if scaled.format == image.format else scaled.rint().cast(image.format))


def _is_translucent(pixels: Pixels) -> bool:
    """An alpha that is the same everywhere weights nothing."""
    if not pixels.has_alpha:
        return False
    alpha = pixels.array[:, :, -1]
    return bool(alpha.min() != alpha.max())


def _scale(image: pyvips.Image, size: Size, kernel: Kernel) -> pyvips.Image:
    """The whole image at `size`, edge to edge, lazily. Not libvips' `resize`, which shrinks by whole blocks
    first and enlarges half a pixel off: both move the picture."""
    width, height = size
    image = _reduce(image, min(width, image.width), min(height, image.height), kernel)
    if (image.width, image.height) == size:
        return image
    return image.affine(
        [width / image.width, 0, 0, height / image.height],
        interpolate=pyvips.Interpolate.new("bilinear" if kernel == "linear" else "bicubic"),
        oarea=[0, 0, width, height],
        extend="copy",
        idx=0.5,
        idy=0.5,
        odx=-0.5,
        ody=-0.5,
        premultiplied=True,
    )


def _reduce(image: pyvips.Image, width: int, height: int, kernel: Kernel) -> pyvips.Image:
    while (image.width, image.height) != (width, height):
        across = max(width, -(-image.width // _LARGEST_REDUCTION))
        down = max(height, -(-image.height // _LARGEST_REDUCTION))
        image = image.reduce(image.width / across, image.height / down, kernel=kernel, gap=0)
    return image


def _cut(image: pyvips.Image, plan: _Plan) -> pyvips.Image:
    return image if plan.scaled == plan.size else image.crop(plan.left, plan.top, *plan.size)
