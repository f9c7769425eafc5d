"""SHA-256, without holding up the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final

_INLINE_BYTES: Final = 64 * 1024


class Hash:
    """SHA-256 of what passes by; much of it is worked on in a thread."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    async def update(self, data: bytes | memoryview) -> None:
        await self.update_all([data])

    async def update_all(self, parts: Sequence[bytes | memoryview]) -> None:
        if sum(map(len, parts)) <= _INLINE_BYTES:
            self._update(parts)
        else:
            await asyncio.to_thread(self._update, parts)

    def _update(self, parts: Sequence[bytes | memoryview]) -> None:
        for part in parts:
            self._hash.update(part)

    def hex(self) -> str:
        return self._hash.hexdigest()


async def sha256_of(data: bytes | memoryview) -> str:
    digest = Hash()
    await digest.update(data)
    return digest.hex()
