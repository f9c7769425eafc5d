"""Many executions at once, and what a process holds before and after."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from imageflow_common.keys import PENDING_PREFIX

from .ledger import read_ledger
from .shapes import Shape
from .stage import Life, Stage, eventually

_CREATORS = 16
_SETTLING_SECONDS = 20.0
_POLL_SECONDS = 0.2


POOLED_THREADS = 16
"""At most so many more, of pools that fill as they are needed."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the orchestrator holds. `markers` are those in the store, `images` those in shared memory. Equal without a
    look at `threads`: when pools fill is chance."""

    tasks: int
    threads: int = field(compare=False)
    descriptors: int
    images: int
    markers: int


async def held(stage: Stage, life: Life) -> Held:
    folder = Path(f"/proc/{life.process.pid}")
    async with stage.reading() as store:
        markers = len((await store.list(PENDING_PREFIX)).items)
    return Held(
        tasks=await tasks_of(stage, life),
        threads=len(list((folder / "task").iterdir())),
        descriptors=len(list((folder / "fd").iterdir())),
        images=len(stage.images_in_shared_memory()),
        markers=markers,
    )


async def tasks_of(stage: Stage, life: Life) -> int:
    """The orchestrator's asyncio tasks, as it counts them itself."""

    ledger = stage.folder / "ledger"
    before = ledger.stat().st_size
    life.process.send(signal.SIGWINCH)

    def counted() -> int:
        told = [entry for entry in read_ledger(ledger, start=before) if entry.what == "tasks"]
        return int(told[-1].words[0]) if told else 0

    tasks: int = await eventually(counted)
    return tasks


async def back_to(stage: Stage, life: Life, before: Held) -> Held:
    """What is held as soon as it is what was held before; else, after a while, what it is then."""
    now = before
    with suppress(AssertionError):

        async def as_before() -> bool:
            nonlocal now
            now = await held(stage, life)
            return now == before

        await eventually(as_before, within=_SETTLING_SECONDS, every=_POLL_SECONDS)
    return now


async def create_all(life: Life, shape: Shape, execution_ids: Sequence[str]) -> None:
    """Creates them, so many at the same time; whoever is refused for now asks again."""
    left = iter(execution_ids)

    async def creator() -> None:
        for execution_id in left:
            await _create(life, shape, execution_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(_CREATORS):
            group.create_task(creator())


async def _create(life: Life, shape: Shape, execution_id: str) -> None:
    async def accepted() -> bool:
        try:
            await life.create(shape.request(execution_id))
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            return False
        return True

    await eventually(accepted)
