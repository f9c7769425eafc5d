"""Slots: two bounds, fair turns, priorities without starvation."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from imageflow_common.errors import Overloaded
from imageflow_orchestrator.admission import Admission, Priority


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Crowd:
    """Executions that hold a slot until they are told to end; `order` is the order of their turns."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.order: list[str] = []
        self.running: dict[str, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    def join(
        self, label: str, namespace: str = "default", priority: Priority = Priority.SYNCHRONOUS
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(self._hold(label, namespace, priority))
        self.tasks.append(task)
        return task

    async def end_one(self, label: str) -> None:
        self.running[label].pop(0).set()
        await settle()

    async def _hold(self, label: str, namespace: str, priority: Priority) -> None:
        async with self.admission.slot(namespace, priority):
            self.order.append(label)
            done = asyncio.Event()
            self.running.setdefault(label, []).append(done)
            await done.wait()

    async def drain(self) -> None:
        while any(self.running.values()):
            for waiting in self.running.values():
                while waiting:
                    waiting.pop(0).set()
            await settle()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_no_more_run_at_once_than_there_are_slots() -> None:
    crowd = Crowd(Admission(max_running=3, max_waiting=10))
    for _ in range(8):
        crowd.join("a")
    await settle()
    assert (crowd.admission.running, crowd.admission.waiting) == (3, 5)
    await crowd.drain()
    assert (crowd.admission.running, crowd.admission.waiting) == (0, 0)


async def test_a_namespace_never_has_more_than_its_share() -> None:
    crowd = Crowd(Admission(max_running=10, max_waiting=100, max_running_per_namespace=5))
    for _ in range(9):
        crowd.join("a", "a")
    crowd.join("b", "b")
    await settle()
    assert Counter(crowd.order) == {"a": 5, "b": 1}
    await crowd.drain()


async def test_namespaces_take_turns() -> None:
    crowd = Crowd(Admission(max_running=1, max_waiting=100))
    crowd.join("first")
    await settle()
    for label in ("a", "a", "a", "b", "b", "c"):
        crowd.join(label, label)
    await settle()
    await crowd.drain()
    assert crowd.order == ["first", "a", "b", "c", "a", "b", "a"]


async def test_a_synchronous_execution_is_refused_when_too_many_wait() -> None:
    crowd = Crowd(Admission(max_running=1, max_waiting=2))
    for _ in range(3):
        crowd.join("a")
    await settle()
    with pytest.raises(Overloaded) as refused:
        async with crowd.admission.slot():
            pass
    assert refused.value.retry_after is not None
    await crowd.drain()


async def test_what_was_accepted_before_is_never_refused() -> None:
    crowd = Crowd(Admission(max_running=1, max_waiting=1))
    for _ in range(5):
        crowd.join("later", priority=Priority.ASYNCHRONOUS)
    await settle()
    assert crowd.admission.waiting == 4
    await crowd.drain()
    assert len(crowd.order) == 5


async def test_classes_share_in_proportion_and_none_starves() -> None:
    crowd = Crowd(Admission(max_running=1, max_waiting=1_000))
    crowd.join("first")
    await settle()
    for priority in Priority:
        for _ in range(50):
            crowd.join(priority.name, priority=priority)
    await settle()
    await crowd.end_one("first")
    for _ in range(41):
        await crowd.end_one(crowd.order[-1])
    turns = Counter(crowd.order[1:43])
    assert turns[Priority.SYNCHRONOUS.name] == 32
    assert turns[Priority.ASYNCHRONOUS.name] == 8
    assert turns[Priority.BATCH.name] == 2
    await crowd.drain()


async def test_a_waiter_that_gives_up_leaves_no_trace() -> None:
    crowd = Crowd(Admission(max_running=1, max_waiting=10))
    crowd.join("a")
    await settle()
    waiting = crowd.join("b")
    await settle()
    waiting.cancel()
    crowd.running["a"].pop().set()
    await settle()
    assert (crowd.admission.running, crowd.admission.waiting) == (0, 0)


async def test_a_slot_can_be_given_back_and_asked_for_again() -> None:
    admission = Admission(max_running=1, max_waiting=10)
    async with admission.slot() as slot:
        slot.release()
        async with admission.slot("other"):
            assert admission.running == 1
        await slot.acquire()
        assert admission.running == 1
    assert admission.running == 0


async def test_more_bytes_than_the_budget_are_refused_but_one_image_is_always_taken() -> None:
    admission = Admission(max_running=10, max_waiting=10, max_bytes=100)
    async with admission.slot(size_bytes=1_000):
        with pytest.raises(Overloaded, match="1000 bytes"):
            async with admission.slot(size_bytes=1):
                pass
    async with admission.slot(size_bytes=60), admission.slot(size_bytes=40):
        assert admission.running == 2
