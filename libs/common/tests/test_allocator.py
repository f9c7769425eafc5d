"""Freed memory goes back to the system, though the end of the heap is in use, and whichever thread had it."""

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

_GROW_IN_THREADS = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from imageflow_common.allocator import give_back_freed_memory, keep_freed_memory, resident_bytes

def grow():
    everyone.wait()  # what waiting takes lies below the block then, which is the end of its heap
    block = b"x" * (30 * 1024 * 1024)
    everyone.wait()
    everyone.wait()

keep_freed_memory()
before = resident_bytes()
everyone = Barrier(13)
with ThreadPoolExecutor(12) as pool:
    growing = [pool.submit(grow) for _ in range(12)]
    everyone.wait()
    everyone.wait()
    print(resident_bytes() - before)
    everyone.wait()
    for each in growing:
        each.result()
    give_back_freed_memory()
    print(resident_bytes() - before)
"""


def test_a_process_that_has_grown_gives_freed_memory_back() -> None:
    """In a process of its own: this one may have memory to spare already."""
    most, afterwards = _grown(_GROW)
    assert most > 300 * MIB
    assert afterwards < 100 * MIB


def test_what_many_threads_have_freed_is_kept_once_not_for_each() -> None:
    most, afterwards = _grown(_GROW_IN_THREADS)
    assert most > 300 * MIB
    assert afterwards < 100 * MIB


def _grown(program: str) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    most, afterwards = map(int, done.stdout.split())
    return most, afterwards
