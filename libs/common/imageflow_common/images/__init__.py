"""Encoded images in, pixels out, and back. Pure: no files, no network.

`probe` reads a header, `decode` gives `Pixels`, `encode` gives bytes; `as_vips` and `from_vips` lend pixels
to libvips.
"""

from imageflow_common.formats import MEDIA_TYPES, EncodedBytes, MediaType, media_type_of
from imageflow_common.images.decode import decode
from imageflow_common.images.encode import OUTPUT_TYPES, OutputType, encode, to_uint8, to_uint16
from imageflow_common.images.header import DEFAULT_LIMITS, ImageHeader, ImageLimits, probe
from imageflow_common.images.vips import array_as_vips, as_vips, from_vips

__all__ = [
    "DEFAULT_LIMITS",
    "MEDIA_TYPES",
    "OUTPUT_TYPES",
    "EncodedBytes",
    "ImageHeader",
    "ImageLimits",
    "MediaType",
    "OutputType",
    "array_as_vips",
    "as_vips",
    "decode",
    "encode",
    "from_vips",
    "media_type_of",
    "probe",
    "to_uint8",
    "to_uint16",
]
