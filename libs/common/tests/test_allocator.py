"""Freed memory goes back to the system, though the end of the heap is in use."""

from __future__ import annotations

import subprocess
import sys

MIB = 1024 * 1024

_GROW = """
import asyncio
from imageflow_common.allocator import giving_back_freed_memory, keep_freed_memory, resident_bytes

async def main():
    keep_freed_memory()
    before = resident_bytes()
    async with asyncio.timeout(20), giving_back_freed_memory(every_seconds=0.02):
        blocks = [b"x" * 65_536 for _ in range(6_400)]
        print(resident_bytes() - before)
        last = blocks[-1]  # it holds up what lies below it
        del blocks
        while resident_bytes() > before + 100 * 1024 * 1024:
            await asyncio.sleep(0.02)
    print(resident_bytes() - before)

asyncio.run(main())
"""


def test_a_process_that_has_grown_gives_freed_memory_back() -> None:
    """In a process of its own: this one may have memory to spare already."""
    done = subprocess.run([sys.executable, "-c", _GROW], capture_output=True, text=True, check=True, timeout=60)
    most, afterwards = map(int, done.stdout.split())
    assert most > 300 * MIB
    assert afterwards < 100 * MIB
