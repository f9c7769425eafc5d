"""libvips, set up once: the only module that imports pyvips first.

Everything else takes `pyvips` from here, so that the settings below hold before the library starts:

- one thread per operation (`VIPS_CONCURRENCY=1`, unless the environment says otherwise): parallelism comes
  from requests;
- no operation cache: pictures of strangers must not outlive their request;
- of all loaders only those for JPEG, PNG, WebP, TIFF and GIF can run, and no operation that libvips itself
  marks as unsafe on untrusted data.

pyvips calls libvips through cffi in API mode, which releases the GIL for the length of every call; the pixel
work of a lazy pipeline happens inside `write_to_memory` and the savers.
"""

from __future__ import annotations

import os
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from imageflow_common.pixels import PixelArray, Pixels

os.environ.setdefault("VIPS_CONCURRENCY", "1")

import pyvips  # libvips reads VIPS_CONCURRENCY when it starts

__all__ = ["VipsError", "array_as_vips", "as_vips", "from_vips", "pyvips"]

SAFE_LOADERS: Final = (
    "VipsForeignLoadJpeg",
    "VipsForeignLoadPng",
    "VipsForeignLoadWebp",
    "VipsForeignLoadTiff",
    "VipsForeignLoadNsgif",
)

pyvips.cache_set_max(0)
pyvips.block_untrusted_set(True)
pyvips.operation_block_set("VipsForeignLoad", True)
for _loader in SAFE_LOADERS:
    pyvips.operation_block_set(_loader, False)

VipsError: Final = pyvips.Error

_FORMATS: Final = {"uint8": "uchar", "uint16": "ushort", "float32": "float", "float64": "double"}
_DTYPES: Final = {name: np.dtype(dtype) for dtype, name in _FORMATS.items()}
_INTERPRETATIONS: Final = {"uint8": ("b-w", "srgb"), "uint16": ("grey16", "rgb16")}


def array_as_vips(array: npt.NDArray[Any]) -> pyvips.Image:
    """The array (H×W×C, C-contiguous; uint8, uint16, float32 or float64) as an image over the same memory,
    which the image keeps alive. uint8 and uint16 are marked sRGB or grey by their channels, floats are left
    unmarked."""
    height, width, channels = array.shape
    dtype = array.dtype.name
    image = pyvips.Image.new_from_memory(array, width, height, channels, _FORMATS[dtype])
    grey, colour = _INTERPRETATIONS.get(dtype, ("multiband", "multiband"))
    return image.copy(interpretation=grey if channels < 3 else colour)


def as_vips(pixels: Pixels) -> pyvips.Image:
    """The pixels as an image over the same memory: nothing is copied."""
    return array_as_vips(pixels.array)


def from_vips(image: pyvips.Image) -> PixelArray:
    """Computes the image into fresh, writable, C-contiguous memory, H×W×C; what was lazy runs here, without
    the GIL. The dtype is the image's own. Raises VipsError when a source turns out to be damaged."""
    memory = image.write_to_memory()
    array = np.frombuffer(memory, _DTYPES[image.format])
    return cast(PixelArray, array.reshape(image.height, image.width, image.bands))
