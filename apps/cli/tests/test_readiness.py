"""What is waited for can be called off."""

from __future__ import annotations

import asyncio

import pytest

from imageflow_cli.readiness import _until


async def test_a_wait_ends_when_it_is_called_off_although_the_call_under_way_hides_that() -> None:
    """As grpc.aio does when the call fails at the same moment."""
    asked = asyncio.Event()

    async def hides_it() -> bool:
        asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return False
        return True

    waiting = asyncio.create_task(_until(hides_it))
    await asked.wait()
    waiting.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await waiting
