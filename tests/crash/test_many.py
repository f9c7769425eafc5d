"""Many executions at once all end right, and leave nothing behind in the orchestrator."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import accumulate
from pathlib import Path
from time import monotonic

import pytest

from imageflow.v1.execution_pb2 import Execution

from . import pictures
from .ledger import read_ledger
from .load import POOLED_THREADS, Held, back_to, create_all, held
from .proving import PROVE, WHOLE, share_of, table, write_report
from .shapes import INPUT, QUICK, reference
from .stage import Life, Stage, eventually, staged
from .verdict import Expected, faults_found, told_twice

MANY = share_of(10_000, at_least=200) if PROVE else 200
WARM_UP = 30


@pytest.mark.timeout(3600 if PROVE else 120)
async def test_many_executions_at_once_end_right_and_leave_nothing_behind(tmp_path: Path) -> None:
    sha256 = await reference(QUICK)
    async with staged(tmp_path / "stage", "resize", "filter") as stage, stage.live() as life:
        await life.upload(INPUT, pictures.coins())
        await run_all(stage, life, "warm", WARM_UP)
        before = await back_to(stage, life, await settled(stage, life))
        start = monotonic()
        await run_all(stage, life, "many", MANY)
        seconds = monotonic() - start
        after = await back_to(stage, life, before)
        assert after == before
        assert after.threads <= before.threads + POOLED_THREADS
        names = [*(f"warm-{number}" for number in range(WARM_UP)), *(f"many-{number}" for number in range(MANY))]
        ended = {each.execution_id: each for each in await life.list_all()}
        faults = await faults_found(stage, [Expected(name, QUICK, sha256) for name in names], ended)
        assert not faults, "\n".join(faults[:50])
        assert not told_twice(stage.entries())
    if WHOLE:
        report(seconds, before, after, ended)


async def settled(stage: Stage, life: Life) -> Held:
    """What is held when it stays the same for a second."""
    before = await held(stage, life)
    while True:
        await asyncio.sleep(1)
        now = await held(stage, life)
        if now == before and not now.markers and not now.images:
            return now
        before = now


async def run_all(stage: Stage, life: Life, prefix: str, number: int) -> None:
    await create_all(life, QUICK, [f"{prefix}-{each}" for each in range(number)])
    told: set[str] = set()
    ledger, read = stage.folder / "ledger", 0

    def done() -> bool:
        nonlocal read
        assert life.process.alive, life.process.said[-3000:]
        size = ledger.stat().st_size
        new = read_ledger(ledger, start=read, end=size)
        told.update(e.execution_id for e in new if e.what == "completion" and e.execution_id.startswith(prefix))
        read = size
        return len(told) >= number

    await eventually(done, within=3000, every=0.5)


def most_pending(executions: Collection[Execution]) -> int:
    changes = [(each.create_time.ToDatetime(), 1) for each in executions]
    changes += [(each.end_time.ToDatetime(), -1) for each in executions]
    return max(accumulate(change for _, change in sorted(changes)))


def report(seconds: float, before: Held, after: Held, ended: dict[str, Execution]) -> None:
    rows = [
        ("executions", MANY),
        ("most of them accepted and not ended at the same time", most_pending(ended.values())),
        (
            "completed with the right output",
            sum(each.status == Execution.COMPLETED for each in ended.values()) - WARM_UP,
        ),
        ("seconds, from the first request to the last completion", f"{seconds:.0f}"),
        ("executions a second", f"{MANY / seconds:.1f}"),
    ]
    names = ("tasks", "threads", "descriptors", "images", "markers")
    holdings = [(name, getattr(before, name), getattr(after, name)) for name in names]
    write_report(
        "many",
        f"{MANY:,} executions, as fast as they are accepted",
        "They are created as fast as the orchestrator accepts them, while it runs them, each with two steps over an "
        "image of 384×303 pixels, and stored with all their intermediates on a disk that is told to keep them (fsync). "
        "Asserted is that each ends once, with the output that one process makes of the same pipeline; that no object "
        "is damaged; and that the orchestrator holds afterwards what it held before.",
        table(("", ""), rows),
        table(("the orchestrator holds", "before", "after"), holdings),
    )
