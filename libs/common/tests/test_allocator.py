"""Freed memory goes back to the system, though the end of the heap is in use."""

from __future__ import annotations

import asyncio

from imageflow_common.allocator import giving_back_freed_memory, resident_bytes

MIB = 1024 * 1024


async def test_a_process_that_has_grown_gives_freed_memory_back() -> None:
    before = resident_bytes()
    async with asyncio.timeout(20), giving_back_freed_memory(every_seconds=0.02):
        blocks = [b"x" * 65_536 for _ in range(6_400)]
        assert resident_bytes() > before + 300 * MIB
        last = blocks[-1]  # it holds up what lies below it
        del blocks
        while resident_bytes() > before + 100 * MIB:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert len(last) == 65_536
