"""Many requests by message: shared by orchestrators of which each is restarted in turn, and ten thousand in a row."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest
from kafka import KafkaConsumer, TopicPartition

from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics
from imageflow_common.store import ObjectKey
from imageflow_common.store_local import LocalStore
from imageflow_orchestrator.news import TOPICS
from tests.kafka.office import Office

from . import pictures
from .by_message import ended_among, message, no_marker, until_all_have_ended, until_told
from .proving import PROVE, REPORTS, WHOLE, share_of, table, write_report
from .shapes import INPUT, QUICK, reference
from .stage import Life, Stage, eventually, staged

ROUNDS = share_of(5) if PROVE else 1
PAUSE_SECONDS = 0.1
MANY = share_of(10_000)
PARTITIONS = 6
SAMPLE_SECONDS = 1.0
WITHIN_SECONDS = 1_200.0 if PROVE else 120.0


@dataclass(frozen=True, slots=True)
class Site:
    """Orchestrators that share a broker's topics and a local store."""

    stage: Stage
    store: LocalStore
    closing: AsyncExitStack
    lives: list[Life]

    @property
    def log(self) -> Path:
        return self.stage.folder / "orchestrator.log"

    async def another(self) -> None:
        self.lives.append(await self.closing.enter_async_context(self.stage.live()))


@asynccontextmanager
async def sharing(folder: Path, settings: KafkaSettings, *, orchestrators: int) -> AsyncIterator[Site]:
    """Each of them holds a part."""
    async with staged(folder, "resize", "filter") as stage, AsyncExitStack() as closing, stage.reading() as store:
        await asyncio.to_thread(create_topics, settings, TOPICS, partitions=PARTITIONS)
        stage.program = "imageflow_orchestrator"
        stage.settings = {
            "IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "IMAGEFLOW_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
            "IMAGEFLOW_KAFKA_SESSION_TIMEOUT_SECONDS": str(settings.session_timeout_seconds),
        }
        site = Site(stage, store, closing, [])
        for _ in range(orchestrators):
            await site.another()
        await site.lives[0].upload(INPUT, pictures.coins())
        await eventually(lambda: all('"kafka.holding"' in life.process.said for life in site.lives))
        yield site


@pytest.mark.timeout(1_500 if PROVE else 240)
async def test_a_rolling_restart_of_three_loses_and_fails_nothing(
    tmp_path: Path, kafka_settings: KafkaSettings
) -> None:
    """Each ends as an orchestrator that is replaced does: on SIGTERM, with another one in its place."""
    async with sharing(tmp_path / "product", kafka_settings, orchestrators=3) as site:
        site.stage.fault("resize", delay_seconds=0.1)
        office, names = await asyncio.to_thread(Office, kafka_settings), list[str]()
        posting = asyncio.create_task(keep_posting(office, names))
        for _ in range(3 * ROUNDS):
            done = len(await ended_among(site.store, names))
            assert await site.lives.pop(0).process.end(signal.SIGTERM) == 0
            await site.another()
            await eventually(more_than(site.store, names, done))
        posting.cancel()
        await asyncio.wait([posting])
        await until_all_have_ended(site.store, names, site.log, within=WITHIN_SECONDS)
        await check_told(office, site.store, names)
        await eventually(lambda: no_marker(site.store), within=WITHIN_SECONDS)
        await asyncio.to_thread(office.close)


@dataclass(frozen=True, slots=True)
class Sample:
    seconds: float
    ended: int
    lag: int
    memory_mb: tuple[float, ...]


@pytest.mark.skipif(not PROVE, reason="ten thousand messages: make prove")
@pytest.mark.timeout(3_600)
async def test_ten_thousand_messages_end_once_each(tmp_path: Path, kafka_settings: KafkaSettings) -> None:
    async with sharing(tmp_path / "product", kafka_settings, orchestrators=2) as site:
        names = [f"many-{number}" for number in range(MANY)]
        office = await asyncio.to_thread(Office, kafka_settings)
        counting = asyncio.create_task(watch(kafka_settings, site.lives))
        await post(office, names)
        samples = await counting
        await until_all_have_ended(site.store, names, site.log, within=WITHIN_SECONDS)
        await check_told(office, site.store, names)
        await asyncio.to_thread(office.close)
    if WHOLE:
        report(samples)


async def keep_posting(office: Office, names: list[str]) -> None:
    """Until cancelled; `names` has what was posted, or is about to be."""
    while True:
        name = f"rolling-{len(names)}"
        posted = asyncio.create_task(asyncio.to_thread(office.post, message(QUICK, name), key=name))
        names.append(name)
        await asyncio.shield(posted)
        await asyncio.sleep(PAUSE_SECONDS)


async def post(office: Office, names: Sequence[str]) -> None:
    for name in names:
        await asyncio.to_thread(office.post, message(QUICK, name), key=name)


def more_than(store: LocalStore, names: list[str], count: int) -> Callable[[], Awaitable[bool]]:
    async def more() -> bool:
        return len(await ended_among(store, names)) > count

    return more


async def check_told(office: Office, store: LocalStore, names: list[str]) -> None:
    """Each once, as completed, with the right output, and none set aside."""
    told = await until_told(office, len(names), within=WITHIN_SECONDS)
    statuses = {name: [each["status"] for each in told[name]] for name in names}
    assert statuses == {name: ["completed"] for name in names}
    assert await asyncio.to_thread(office.dead) == []
    right = await reference(QUICK)
    for name in names:
        stored = await store.get(ObjectKey(told[name][0]["output_path"]))
        assert hashlib.sha256(stored.data).hexdigest() == right


async def watch(settings: KafkaSettings, lives: Sequence[Life]) -> list[Sample]:
    """Until as many have ended as there are."""
    processes = [psutil.Process(life.process.pid) for life in lives]
    consumer: Any = await asyncio.to_thread(
        lambda: KafkaConsumer(**settings.client_options(), group_id=settings.group_id, enable_auto_commit=False)
    )
    requests, completions = (settings.topic(name) for name in ("pipeline-executions", "pipeline-completions"))

    def count() -> tuple[int, int]:
        asked, told = ([TopicPartition(name, each) for each in range(PARTITIONS)] for name in (requests, completions))
        done = sum(consumer.committed(each) or 0 for each in asked)
        return sum(consumer.end_offsets(told).values()), sum(consumer.end_offsets(asked).values()) - done

    start, samples = monotonic(), list[Sample]()
    try:
        while not samples or samples[-1].ended < MANY:
            ended, lag = await asyncio.to_thread(count)
            memory = tuple(process.memory_info().rss / 1e6 for process in processes)
            samples.append(Sample(monotonic() - start, ended, lag, memory))
            await asyncio.sleep(SAMPLE_SECONDS)
    finally:
        await asyncio.to_thread(consumer.close)
    return samples


def report(samples: Sequence[Sample]) -> None:
    draw(samples, REPORTS / "messages.png")
    last = samples[-1]
    rows = [
        ("messages", MANY),
        ("from the first sent to the last completion", f"{last.seconds:.0f} s"),
        ("executions a second", f"{MANY / last.seconds:.1f}"),
        ("largest lag of the consumer group", max(each.lag for each in samples)),
        *(
            (f"resident memory of orchestrator {number}, at first and at most", f"{first:.0f} and {most:.0f} MB")
            for number, (first, most) in enumerate(
                zip(samples[0].memory_mb, map(max, *(each.memory_mb for each in samples)), strict=True), 1
            )
        ),
    ]
    write_report(
        "messages",
        "Ten thousand messages",
        "Requests for a small pipeline (resize, filter) are sent as fast as one producer that awaits each can; two "
        "orchestrators on one local store share the six partitions. Each ended once, with the right output.",
        table(("", ""), rows),
        "![Executions, lag and memory](messages.png)",
    )


def draw(samples: Sequence[Sample], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")  # there is no screen
    from matplotlib import pyplot

    seconds = [each.seconds for each in samples]
    figure, (above, below) = pyplot.subplots(2, figsize=(8, 5), sharex=True)
    above.plot(seconds, [each.ended for each in samples], label="ended")
    above.plot(seconds, [each.lag for each in samples], label="lag of the consumer group")
    above.set_ylabel("messages")
    above.legend()
    for number, memory in enumerate(zip(*(each.memory_mb for each in samples), strict=True), 1):
        below.plot(seconds, memory, label=f"orchestrator {number}")
    below.set_ylabel("resident MB")
    below.set_ylim(bottom=0)
    below.set_xlabel("seconds")
    below.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
