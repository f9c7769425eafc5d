"""Pixels into the tensor of a network: letterboxed, or stretched where the manifest says so.

The letterbox has the geometry of Ultralytics' (https://docs.ultralytics.com, `LetterBox`): scale to fit with the aspect
ratio kept, then centre on a field of one grey, the odd pixel right and below. The code is ours: libvips scales (linear,
with its support widened when it shrinks, so nothing aliases), numpy fills the tensor.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from imageflow_common.pixels import Affine, PixelArray, Pixels
from imageflow_detect.manifest import InputSpec, Manifest
from imageflow_detect.tensors import Array, Tensor

os.environ.setdefault("VIPS_CONCURRENCY", "1")

import pyvips  # libvips reads VIPS_CONCURRENCY when it starts

pyvips.cache_set_max(0)

_LARGEST_REDUCTION: Final = 256
"""At one go: libvips bounds the taps of a kernel at 2000."""
_FORMATS: Final = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}
FULL_SCALE: Final = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


@dataclass(frozen=True, slots=True, eq=False)
class Letterboxed:
    """`tensor` is `[1, 3, height, width]` of the manifest's type, C-contiguous and writable, float32 normalised as the
    manifest says; `to_pixels` maps network pixels to those of the image it was made from."""

    tensor: Tensor
    to_pixels: Affine


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in a network's input: its size there, and its left top corner."""

    width: int
    height: int
    left: int
    top: int

    @classmethod
    def of(cls, pixels: Pixels, spec: InputSpec) -> Placement:
        if spec.fit == "stretch":
            return cls(spec.size.width, spec.size.height, 0, 0)
        return cls.fit(pixels.width, pixels.height, into_width=spec.size.width, into_height=spec.size.height)

    @classmethod
    def fit(cls, width: int, height: int, *, into_width: int, into_height: int) -> Placement:
        """A picture of width×height, as large as fits, each side at least 1, centred."""
        scale = min(into_width / width, into_height / height)
        new_width = min(into_width, max(1, round(width * scale)))
        new_height = min(into_height, max(1, round(height * scale)))
        return cls(new_width, new_height, (into_width - new_width) // 2, (into_height - new_height) // 2)


def letterbox(pixels: Pixels, manifest: Manifest) -> Letterboxed:
    """Any Pixels as the input of a network.

    Grey becomes three equal channels; alpha is laid over the letterbox's colour; uint16 is scaled by 1/65535;
    float32 is clipped to 0…1, NaN counts as 0.
    """
    spec = manifest.input
    place = Placement.of(pixels, spec)
    tensor = _placed(_scaled(pixels, place, spec), place, spec)
    to_pixels = Affine.scale(pixels.width / place.width, pixels.height / place.height) @ Affine.translation(
        -place.left, -place.top
    )
    return Letterboxed(tensor, to_pixels)


def _scaled(pixels: Pixels, place: Placement, spec: InputSpec) -> PixelArray:
    """The picture at its size in the network, H×W×C without alpha, in the dtype it came with."""
    array = np.ascontiguousarray(_finite(pixels.array))
    if not pixels.has_alpha and (pixels.width, pixels.height) == (place.width, place.height):
        return cast(PixelArray, array)
    image = pyvips.Image.new_from_memory(array, pixels.width, pixels.height, pixels.channels, _FORMATS[pixels.dtype])
    if pixels.has_alpha:
        image = _flattened(image, spec, full=FULL_SCALE[pixels.dtype])
    image = _resized(image, place.width, place.height)
    scaled = np.frombuffer(image.write_to_memory(), pixels.array.dtype)
    return cast(PixelArray, scaled.reshape(image.height, image.width, image.bands))


def _resized(image: pyvips.Image, width: int, height: int) -> pyvips.Image:
    """Edge to edge. Not by libvips' `resize`, which shrinks by whole blocks first and enlarges half a pixel off: boxes
    would lie beside what they are of."""
    while image.width > width or image.height > height:
        across = max(min(width, image.width), -(-image.width // _LARGEST_REDUCTION))
        down = max(min(height, image.height), -(-image.height // _LARGEST_REDUCTION))
        image = image.reduce(image.width / across, image.height / down, kernel="linear", gap=0)
    if (image.width, image.height) == (width, height):
        return image
    return image.affine(
        [width / image.width, 0, 0, height / image.height],
        interpolate=pyvips.Interpolate.new("bilinear"),
        oarea=[0, 0, width, height],
        extend="copy",
        idx=0.5,
        idy=0.5,
        odx=-0.5,
        ody=-0.5,
    )


def _flattened(image: pyvips.Image, spec: InputSpec, *, full: float) -> pyvips.Image:
    """Laid over the letterbox's colour (grey pictures over its mean), without alpha."""
    levels = [level / 255 * full for level in spec.letterbox_colour]
    grey = image.bands == 2
    marked = image.copy(interpretation="b-w" if grey else "srgb")  # else libvips sees no alpha
    return marked.flatten(background=[sum(levels) / 3] if grey else levels, max_alpha=full)


def _finite(array: PixelArray) -> PixelArray:
    """Floats in 0…1, so that one bad value cannot spread; whole numbers as they are."""
    if array.dtype != np.float32:
        return array
    return cast(PixelArray, np.clip(np.nan_to_num(array, nan=0.0), 0.0, 1.0))


def _placed(scaled: PixelArray, place: Placement, spec: InputSpec) -> Tensor:
    """The tensor: normalised letterbox colour all round, the normalised picture inside."""
    gain, offset = _gain_and_offset(spec)
    per_unit = np.float32(255.0 / FULL_SCALE[scaled.dtype.name])
    planes = _planes(scaled, spec)
    tensor = np.empty((1, 3, spec.size.height, spec.size.width), spec.type)
    surround = spec.letterbox_colour if spec.colour_order == "rgb" else spec.letterbox_colour[::-1]
    bottom, right = place.top + place.height, place.left + place.width
    for channel in range(3):
        plane = tensor[0, channel]
        around = surround[channel] * gain[channel] + offset[channel]
        plane[: place.top] = around
        plane[bottom:] = around
        plane[place.top : bottom, : place.left] = around
        plane[place.top : bottom, right:] = around
        inside = plane[place.top : bottom, place.left : right]
        if spec.type == "uint8":
            inside[...] = _as_bytes(planes[channel])
            continue
        np.multiply(planes[channel], gain[channel] * per_unit, out=inside, casting="unsafe")
        if offset[channel]:
            inside += offset[channel]
    return tensor


def _as_bytes(plane: PixelArray) -> npt.NDArray[np.uint8]:
    """0…255, to the nearest."""
    if plane.dtype == np.uint8:
        return cast(npt.NDArray[np.uint8], plane)
    return cast(npt.NDArray[np.uint8], np.rint(plane * (255.0 / FULL_SCALE[plane.dtype.name])).astype(np.uint8))


def _planes(scaled: PixelArray, spec: InputSpec) -> PixelArray:
    """Channels first, in the model's colour order, contiguous: numpy converts whole rows much faster."""
    if scaled.shape[2] == 1:
        return cast(PixelArray, np.broadcast_to(scaled[:, :, 0], (3, *scaled.shape[:2])))
    ordered = scaled[:, :, ::-1] if spec.colour_order == "bgr" else scaled
    return cast(PixelArray, np.ascontiguousarray(ordered.transpose(2, 0, 1)))


def _gain_and_offset(spec: InputSpec) -> tuple[Array, Array]:
    """`(value * scale - mean) / std` as `value * gain + offset`, per channel, for values of 0…255; bytes stay what they
    are."""
    if spec.type == "uint8":
        return np.ones(3, np.float32), np.zeros(3, np.float32)
    normal = spec.normalisation
    std = np.array(normal.std, np.float64)
    gain = normal.scale / std
    offset = -np.array(normal.mean, np.float64) / std
    return gain.astype(np.float32), offset.astype(np.float32)
