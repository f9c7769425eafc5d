"""The final image, where the output step's own component did not encode it: it was passed over, or its raw pixels
feed other steps too. Rare, so libvips is loaded only then."""

from __future__ import annotations

import asyncio

from imageflow.v1 import image_pb2
from imageflow_common.formats import RAW

from .images import Artifact, ImageTransport


async def encode_artifact(artifact: Artifact, transport: ImageTransport, *, media_type: str, quality: int) -> bytes:
    """The image encoded. Raises InvalidImage and its kin for an input that is none."""
    data = transport.bytes_of(artifact)
    return await asyncio.to_thread(_encode, data, artifact.description, media_type, quality)


def _encode(data: bytes, description: image_pb2.Image, media_type: str, quality: int) -> bytes:
    from imageflow_common.images import decode, encode
    from imageflow_common.process import raw_pixels

    pixels = raw_pixels(memoryview(data), description) if description.media_type == RAW else decode(data)
    return encode(pixels, media_type=media_type, quality=quality or None)
