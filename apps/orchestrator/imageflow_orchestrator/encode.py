"""The final image, where the output step's own component did not encode it: it was passed over, or its raw pixels
feed other steps too. Rare, so libvips is loaded only then."""

from __future__ import annotations

import asyncio

from imageflow_common.formats import RAW

from .images import Artifact, ImageTransport


async def encode_artifact(artifact: Artifact, transport: ImageTransport, *, media_type: str, quality: int) -> bytes:
    """The image encoded. Raises InvalidImage and its kin for an input that is none."""
    return await asyncio.to_thread(_encode, artifact, transport, media_type, quality)


def _encode(artifact: Artifact, transport: ImageTransport, media_type: str, quality: int) -> bytes:
    from imageflow_common.images import decode, encode
    from imageflow_common.process import raw_pixels

    data, description = transport.bytes_of(artifact), artifact.description
    pixels = raw_pixels(memoryview(data), description) if description.media_type == RAW else decode(data)
    return encode(pixels, media_type=media_type, quality=quality or None)
