"""SHA-256, without holding up the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import Final, TypeVar

T = TypeVar("T", bytes, memoryview, bytes | memoryview)
_INLINE_BYTES: Final = 64 * 1024


class Hash:
    """SHA-256 of what passes by; much of it is worked on in a thread."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    async def update(self, data: bytes | memoryview) -> None:
        await self.drain(deque([data]))

    async def drain(self, parts: deque[T]) -> None:
        """Takes from the front until there is nothing left, also of what is appended meanwhile."""
        if sum(map(len, parts)) <= _INLINE_BYTES:
            self._drain(parts)
        else:
            await asyncio.to_thread(self._drain, parts)

    def _drain(self, parts: deque[T]) -> None:
        while parts:
            self._hash.update(parts.popleft())

    def hex(self) -> str:
        return self._hash.hexdigest()


async def sha256_of(data: bytes | memoryview) -> str:
    digest = Hash()
    await digest.update(data)
    return digest.hex()
