"""What the local queue promises beyond the contract."""

from __future__ import annotations

import pytest

from imageflow_common.errors import Overloaded
from imageflow_common.workqueue import LocalWorkQueue, Message


async def test_a_full_queue_refuses_until_a_lease_has_ended() -> None:
    queue = LocalWorkQueue(capacity=2)
    await queue.put(Message("e1", b""))
    await queue.put(Message("e2", b""))
    async with queue.take() as lease:
        with pytest.raises(Overloaded):
            await queue.put(Message("e3", b""))
        await lease.ack()
    await queue.put(Message("e3", b""))


async def test_a_released_message_goes_behind_what_waits() -> None:
    queue = LocalWorkQueue(capacity=2)
    await queue.put(Message("e1", b""))
    await queue.put(Message("e2", b""))
    async with queue.take():
        pass
    async with queue.take() as lease:
        assert lease.message.key == "e2"


async def test_the_last_dead_letters_are_kept() -> None:
    queue = LocalWorkQueue(capacity=9, kept_dead_letters=2)
    for number in range(4):
        await queue.put(Message(f"e{number}", b""))
        async with queue.take() as lease:
            await lease.dead_letter("x" * 2000)
    assert [(dead.message.key, len(dead.reason)) for dead in queue.dead_letters] == [
        ("e2", 1000),
        ("e3", 1000),
    ]
