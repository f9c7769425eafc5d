"""Which of several orchestrators on one store holds the queue of accepted executions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from orchestrator_executions import FailingStore, site, until
from orchestrator_scripted import eventually, never, step

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import Unavailable, WriteConflict
from imageflow_common.keys import QUEUE_KEY
from imageflow_common.store import ObjectStore
from imageflow_common.store_local import LocalStore
from imageflow_orchestrator.queue_epoch import EpochHold
from imageflow_orchestrator.queue_lock import hold_queue

BEAT_SECONDS = 0.005
PATIENT = 3600.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalStore]:
    opened = LocalStore(tmp_path / "store", durable=False)
    yield opened
    await opened.close()


def hold(store: ObjectStore, *, silent_seconds: float = PATIENT) -> EpochHold:
    return EpochHold(store, beat_seconds=BEAT_SECONDS, silent_seconds=silent_seconds)


@asynccontextmanager
async def waiting(store: ObjectStore, **options: float) -> AsyncIterator[asyncio.Task[EpochHold]]:
    """One who had the queue once, lost it, and waits for it again."""
    old = hold(store, **options)
    await old.take()
    await hold(store).take()
    await old.lost()

    async def take() -> EpochHold:
        await old.take()
        return old

    task = asyncio.create_task(take())
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_who_starts_takes_the_queue_and_the_one_before_notices(store: LocalStore) -> None:
    first, second = hold(store), hold(store)
    await first.take()
    noticing = asyncio.create_task(first.lost())
    await second.take()
    async with asyncio.timeout(10):
        await noticing


async def test_one_who_starts_takes_it_though_the_holder_beats_meanwhile(tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "store")
    await hold(store).take()
    store.fails_at = store.writes + 1, WriteConflict("a beat came first")
    async with asyncio.timeout(10):
        await hold(store).take()
    await store.close()


async def test_of_many_who_start_together_one_is_left_with_the_queue(store: LocalStore) -> None:
    holds = [hold(store) for _ in range(8)]
    taking = [asyncio.create_task(each.take()) for each in holds]
    losing: list[asyncio.Task[None]] = []

    async def follow(each: EpochHold, task: asyncio.Task[None]) -> None:
        await task
        await each.lost()

    losing = [asyncio.create_task(follow(each, task)) for each, task in zip(holds, taking, strict=True)]
    await eventually(lambda: sum(task.done() for task in taking) - sum(task.done() for task in losing) == 1)
    beat = (await store.get(QUEUE_KEY)).data
    while (await store.get(QUEUE_KEY)).data == beat:  # noqa: ASYNC110 - the one who is left goes on
        await asyncio.sleep(BEAT_SECONDS)
    assert sum(task.done() for task in taking) - sum(task.done() for task in losing) == 1
    for task in (*taking, *losing):
        task.cancel()
    await asyncio.gather(*taking, *losing, return_exceptions=True)


async def test_one_who_waits_leaves_a_holder_alone_while_he_beats(store: LocalStore) -> None:
    holder = hold(store)
    async with waiting(store, silent_seconds=200 * BEAT_SECONDS) as other:
        await holder.take()
        beating = asyncio.create_task(holder.lost())
        seen = set()
        while len(seen) < 250:
            seen.add((await store.head(QUEUE_KEY)).generation)
            await asyncio.sleep(BEAT_SECONDS)
            assert not beating.done()
        assert not other.done()
        beating.cancel()


async def test_one_who_waits_takes_the_queue_of_a_holder_who_is_silent(store: LocalStore) -> None:
    async with waiting(store, silent_seconds=10 * BEAT_SECONDS) as other, asyncio.timeout(10):
        assert await other


async def test_one_who_waits_takes_the_queue_when_it_is_let_go(store: LocalStore) -> None:
    holder = hold(store)
    async with waiting(store) as other, asyncio.timeout(10):
        await holder.take()
        await holder.let_go()
        assert await other


async def test_a_beat_whose_answer_was_lost_does_not_lose_the_queue(tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "store")
    holder = hold(store)
    await holder.take()
    store.fails_at, store.fails_late = (store.writes + 1, Unavailable("the answer got lost")), True
    beating = asyncio.create_task(holder.lost())
    begun = store.writes
    await eventually(lambda: store.writes > begun + 5)
    assert not beating.done()
    beating.cancel()
    await store.close()


async def test_what_is_damaged_is_taken(store: LocalStore) -> None:
    await store.put(QUEUE_KEY, b"not ours", media_type="application/json")
    async with asyncio.timeout(10):
        await hold(store).take()


async def test_what_the_one_before_ran_goes_on_with_the_next_and_ends_once(tmp_path: Path) -> None:
    """R55"""
    async with site(tmp_path, script={"b": [never]}) as first, site(tmp_path) as second:
        holding = asyncio.create_task(hold_queue(first.executions, hold(first.store)))
        await until(lambda: _is_held(first.store))
        await first.accept(first.request(step("a"), step("b", "filter", "a")))
        await eventually(lambda: first.at.caller.running == {"b"})
        taking = asyncio.create_task(hold_queue(second.executions, hold(second.store)))
        done = await second.ended()
        await eventually(lambda: first.executions.live("default", "e") is None)
        for task in (holding, taking):
            task.cancel()
        assert done.status == Execution.COMPLETED
        assert (first.at.caller.running, first.completions()) == (set(), [])
        assert len(second.completions()) == 1
        assert await second.markers() == []


async def _is_held(store: ObjectStore) -> bool:
    return bool((await store.list(QUEUE_KEY)).items)
