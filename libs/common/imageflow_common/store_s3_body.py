"""What S3 answers to a GET, taken whole."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from imageflow_common.errors import DataLoss
from imageflow_common.hashing import Hash, sha256_of

_PART_BYTES: Final = 1 << 20


async def whole_body(body: Any, size_bytes: int) -> bytes:
    """Raises DataLoss for another size."""
    data: bytes = await body.read()
    return _checked(data, size_bytes)


async def hashed_body(body: Any, size_bytes: int) -> tuple[bytes, str]:
    """The body, and its SHA-256, which of a large one is computed while the rest comes. Raises DataLoss for another
    size."""
    if size_bytes <= _PART_BYTES:
        data = await whole_body(body, size_bytes)
        return data, await sha256_of(data)
    parts: list[bytes] = []
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    digest = asyncio.create_task(_digest(arrived))
    try:
        while part := await body.read(_PART_BYTES):
            parts.append(part)
            arrived.put_nowait(part)
        arrived.put_nowait(b"")
        return _checked(b"".join(parts), size_bytes), await digest
    finally:
        digest.cancel()


async def _digest(arrived: asyncio.Queue[bytes]) -> str:
    """Of all up to the first empty part. What has arrived meanwhile is worked on at once: a thread is dear to ask."""
    digest, ended = Hash(), False
    while not ended:
        parts = [await arrived.get()]
        while not arrived.empty():
            parts.append(arrived.get_nowait())
        ended = not parts[-1]
        await digest.update_all(parts)
    return digest.hex()


def _checked(data: bytes, size_bytes: int) -> bytes:
    if len(data) != size_bytes:
        raise DataLoss("a stored object is truncated")
    return data
