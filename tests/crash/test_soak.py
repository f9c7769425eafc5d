"""Under load for ten minutes the orchestrator does not grow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import psutil
import pytest

from . import pictures
from .load import POOLED_THREADS, Held, back_to, tasks_of
from .proving import PROVE, REPORTS, SHARE, WHOLE, table, write_report
from .shapes import INPUT, SHAPES
from .stage import Life, Stage, staged
from .test_many import settled

SECONDS = 600 * SHARE
STEADY_AFTER_SECONDS = 120 * SHARE
SAMPLE_SECONDS = 5
WARM_UP_SECONDS = 15
CLIENTS = 4
MOST_MB_A_MINUTE = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    seconds: float
    memory_mb: float
    threads: int
    descriptors: int
    tasks: int
    executions: int


@dataclass(slots=True)
class Progress:
    """How many executions were begun."""

    begun: int = 0

    def next(self) -> int:
        self.begun += 1
        return self.begun


@pytest.mark.skipif(not PROVE, reason="ten minutes: make prove")
@pytest.mark.timeout(2 * SECONDS + 120)
async def test_the_orchestrator_does_not_grow(tmp_path: Path) -> None:
    async with staged(tmp_path / "stage", "resize", "filter", "detect") as stage, stage.live() as life:
        await life.upload(INPUT, pictures.coins())
        progress = Progress()
        await load(life, progress, monotonic() + WARM_UP_SECONDS, clients=4 * CLIENTS)  # until its pools are full
        before = await settled(stage, life)
        start = monotonic()
        samples: list[Sample] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(load(life, progress, start + SECONDS))
            group.create_task(watch(stage, life, samples, start, progress))
        after = await back_to(stage, life, before)
    slope = mb_a_minute([each for each in samples if each.seconds >= STEADY_AFTER_SECONDS])
    assert len(samples) >= 2
    if WHOLE:
        report(samples, slope, before, after)
    assert after == before
    assert after.threads <= before.threads + POOLED_THREADS
    assert slope <= MOST_MB_A_MINUTE or not WHOLE  # in less time pools are still being filled


async def load(life: Life, progress: Progress, end: float, *, clients: int = CLIENTS) -> None:
    """Clients that run one execution after the other, of all shapes."""

    async def client() -> None:
        while monotonic() < end:
            number = progress.next()
            shape = SHAPES[number % len(SHAPES)]
            execution = await life.run(shape.request(f"{shape.name}-{number}"))
            assert execution.State.Name(execution.status) == shape.status, execution

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())


async def watch(stage: Stage, life: Life, samples: list[Sample], start: float, progress: Progress) -> None:
    process = psutil.Process(life.process.pid)
    while (now := monotonic() - start) < SECONDS:
        samples.append(
            Sample(
                seconds=now,
                memory_mb=process.memory_info().rss / 1e6,
                threads=process.num_threads(),
                descriptors=process.num_fds(),
                tasks=await tasks_of(stage, life),
                executions=progress.begun,
            )
        )
        await asyncio.sleep(SAMPLE_SECONDS)


def mb_a_minute(samples: Sequence[Sample]) -> float:
    """The slope of the straight line that fits best."""
    minutes = [each.seconds / 60 for each in samples]
    return float(np.polyfit(minutes, [each.memory_mb for each in samples], 1)[0])


def report(samples: Sequence[Sample], slope: float, before: Held, after: Held) -> None:
    draw(samples, REPORTS / "soak.png")
    done = samples[-1].executions - samples[0].executions
    rows = [
        ("executions", done),
        ("executions a second", f"{done / samples[-1].seconds:.1f}"),
        ("growth of resident memory over the last eight minutes", f"{slope:+.2f} MB a minute"),
        ("allowed", f"{MOST_MB_A_MINUTE:g} MB a minute"),
    ]
    minutes = [
        (
            f"{each.seconds / 60:.0f}",
            f"{each.memory_mb:.1f}",
            each.threads,
            each.descriptors,
            each.tasks,
            each.executions - samples[0].executions,
        )
        for each in by_the_minute(samples)
    ]
    names = ("tasks", "threads", "descriptors", "images", "markers")
    write_report(
        "soak",
        "Ten minutes under load",
        f"{CLIENTS} clients run one execution after the other, of {len(SHAPES)} shapes, with all intermediates stored.",
        table(("", ""), rows),
        "![Resident memory](soak.png)",
        table(("minute", "resident MB", "threads", "descriptors", "tasks", "executions"), minutes),
        table(
            ("the orchestrator holds", "before", "after"),
            [(name, getattr(before, name), getattr(after, name)) for name in names],
        ),
    )


def by_the_minute(samples: Sequence[Sample]) -> list[Sample]:
    firsts: dict[int, Sample] = {}
    for each in samples:
        firsts.setdefault(int(each.seconds // 60), each)
    return list(firsts.values())


def draw(samples: Sequence[Sample], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")  # there is no screen
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 3.5))
    axis.plot([each.seconds / 60 for each in samples], [each.memory_mb for each in samples])
    axis.axvline(STEADY_AFTER_SECONDS / 60, color="grey", linewidth=0.8, linestyle=":")
    axis.set_xlabel("minutes")
    axis.set_ylabel("resident memory, MB")
    axis.set_ylim(bottom=0)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
