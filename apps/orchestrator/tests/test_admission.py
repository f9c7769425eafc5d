"""Executions run and wait up to two bounds; what is more is refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from orchestrator_scripted import eventually

from imageflow_common.errors import Overloaded
from imageflow_orchestrator.admission import Admission


class Work:
    """Executions that hold a slot until they are told to end."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.ends = [asyncio.Event() for _ in range(9)]
        self.running: list[int] = []

    async def run(self, number: int) -> None:
        async with self._admission.slot():
            self.running.append(number)
            await self.ends[number].wait()
            self.running.remove(number)


async def test_the_first_run_the_next_wait_in_order_and_the_rest_is_told_to_come_back() -> None:
    """R75, D10"""
    work = Work(Admission(max_running=2, max_waiting=2))
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(work.run(number))
        await eventually(lambda: work.running == [0, 1])

        with pytest.raises(Overloaded) as caught:
            await work.run(4)
        assert caught.value.retry_after == timedelta(seconds=1)

        work.ends[1].set()
        await eventually(lambda: work.running == [0, 2])
        for end in work.ends:
            end.set()


async def test_one_who_stops_waiting_makes_room_and_takes_no_slot() -> None:
    work = Work(Admission(max_running=1, max_waiting=1))
    async with asyncio.TaskGroup() as group:
        group.create_task(work.run(0))
        waiting = group.create_task(work.run(1))
        await eventually(lambda: work.running == [0])

        waiting.cancel()
        await asyncio.wait([waiting])
        group.create_task(work.run(2))
        await asyncio.sleep(0)
        work.ends[0].set()
        await eventually(lambda: work.running == [2])
        work.ends[2].set()


async def test_a_slot_is_free_again_when_its_execution_raised() -> None:
    admission = Admission(max_running=1, max_waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with admission.slot():
                raise ZeroDivisionError
