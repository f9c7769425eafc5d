"""What S3 answers to a GET, taken whole."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from imageflow_common.errors import DataLoss
from imageflow_common.hashing import Hash

_PART_BYTES: Final = 2 << 20


async def whole_body(body: Any, size_bytes: int) -> bytes:
    """Raises DataLoss for another size."""
    data: bytes = await body.read()
    return _checked(data, size_bytes)


async def hashed_body(body: Any, size_bytes: int) -> tuple[bytes, str]:
    """The body, and its SHA-256, which of a large one is computed while the rest comes. Raises DataLoss for another
    size."""
    digest, parts, waiting, working = Hash(), list[bytes](), deque[bytes](), None
    try:
        while part := await body.read(_PART_BYTES):
            parts.append(part)
            waiting.append(part)
            if (working is None or working.done()) and sum(map(len, waiting)) >= _PART_BYTES:
                working = asyncio.create_task(digest.drain(waiting))
        data = _checked(b"".join(parts), size_bytes)
        if working is not None:
            await working
        await digest.drain(waiting)
        return data, digest.hex()
    finally:
        if working is not None:
            working.cancel()


def _checked(data: bytes, size_bytes: int) -> bytes:
    if len(data) != size_bytes:
        raise DataLoss("a stored object is truncated")
    return data
