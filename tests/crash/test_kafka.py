"""Two orchestrators, one store and one broker, with work in flight: whichever is killed or stopped, every request ends
exactly once, with the right output, and is told of once (R42, R53, R55, D8)."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic

import pytest
import pytest_asyncio

from backends.kafka import KafkaServer
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics
from imageflow_common.store import ObjectKey
from imageflow_orchestrator.news import TOPICS
from tests.kafka.office import Office

from . import pictures
from .by_message import message, no_marker, until_all_have_ended, until_told
from .proving import PROVE, table, write_report
from .shapes import INPUT, QUICK, reference
from .stage import Life, Stage, eventually, staged

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900 if PROVE else 240)]

REQUESTS = 200 if PROVE else 40
TIMES = 3 if PROVE else 1
SESSION_SECONDS = 3.0
PARTITIONS = 6
ALL_PARTITIONS = f'"partitions": {list(range(PARTITIONS))}'
WITHIN_SECONDS = 240.0 if PROVE else 120.0


@dataclass(frozen=True, slots=True)
class Case:
    """What is there while a fault happens."""

    stage: Stage
    server: KafkaServer
    first: Life
    second: Life
    again: Callable[[], Awaitable[Life]]


async def kill_an_orchestrator(case: Case) -> None:
    await case.first.process.end(signal.SIGKILL)
    await case.again()


async def stop_an_orchestrator(case: Case) -> None:
    """For longer than its session: the other has its share when it wakes up, and it does not know."""
    case.first.process.send(signal.SIGSTOP)
    await eventually(lambda: ALL_PARTITIONS in case.second.process.said)
    case.first.process.send(signal.SIGCONT)


async def restart_an_orchestrator(case: Case) -> None:
    assert await case.first.process.end(signal.SIGTERM) == 0
    await case.again()


async def kill_the_broker(case: Case) -> None:
    await asyncio.to_thread(case.server.kill)
    await asyncio.to_thread(case.server.start)


async def stop_the_broker(case: Case) -> None:
    case.server.pause()
    await asyncio.sleep(2 * SESSION_SECONDS)
    case.server.resume()


FAULTS: dict[str, Callable[[Case], Awaitable[None]]] = {
    "an orchestrator is killed": kill_an_orchestrator,
    "an orchestrator is stopped until another has its share": stop_an_orchestrator,
    "the broker is killed": kill_the_broker,
    "the broker is stopped for two sessions": stop_the_broker,
    **({"an orchestrator is restarted": restart_an_orchestrator} if PROVE else {}),
}
_rows: list[tuple[object, ...]] = []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("kafka") / "product", "resize", "filter") as stage:
        yield stage
    if PROVE and _rows:
        head = ("fault", "requests", "ended when it fell", "lost", "ended twice", "told twice", "seconds to the end")
        write_report("kafka", "Kafka with work in flight", __doc__ or "", table(head, _rows))


@pytest.mark.parametrize("number", range(TIMES))
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_request_ends_once_and_is_told_of_once(
    product: Stage, kafka_server: KafkaServer, kafka_settings: KafkaSettings, fault: str, number: int
) -> None:
    settings = kafka_settings.model_copy(update={"bootstrap_servers": kafka_server.bootstrap_servers})
    await asyncio.to_thread(create_topics, settings, TOPICS, partitions=PARTITIONS)
    product.settings = {
        "IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "IMAGEFLOW_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
        "IMAGEFLOW_KAFKA_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        "IMAGEFLOW_KAFKA_TIMEOUT_SECONDS": "2",
    }
    names = [f"{fault.replace(' ', '-')}-{number}-{each}" for each in range(REQUESTS)]
    async with AsyncExitStack() as stack:

        async def another() -> Life:
            return await stack.enter_async_context(product.live())

        first, second = await another(), await another()
        await first.upload(INPUT, pictures.coins())
        await eventually(lambda: second.process.said.count('"kafka.holding"') >= 2)
        product.fault("resize", delay_seconds=0.05)
        office = await asyncio.to_thread(Office, settings)
        for name in names:
            await asyncio.to_thread(office.post, message(QUICK, name), key=name)
        await eventually(lambda: len(times_ended(product, names)) >= REQUESTS // 10)
        before = len(times_ended(product, names))
        began = monotonic()

        await FAULTS[fault](Case(product, kafka_server, first, second, another))

        async with product.reading() as store:
            await until_all_have_ended(store, names, product.folder / "orchestrator.log", within=WITHIN_SECONDS)
            told = await until_told(office, len(names), within=WITHIN_SECONDS)
            await eventually(lambda: no_marker(store), within=WITHIN_SECONDS)
        seconds = monotonic() - began
        dead = await asyncio.to_thread(office.dead)
        await asyncio.to_thread(office.check_schemas, "pipeline-completions", "pipeline-progress", "pipeline-control")
        await asyncio.to_thread(office.close)

    assert before < REQUESTS, "the fault fell into nothing"
    assert {name: times for name, times in times_ended(product, names).items() if times > 1} == {}
    assert {name: [each["status"] for each in told[name]] for name in names} == {name: ["completed"] for name in names}
    assert dead == []
    right = await reference(QUICK)
    async with product.reading() as store:
        for name in names:
            stored = await store.get(ObjectKey(told[name][0]["output_path"]))
            assert hashlib.sha256(stored.data).hexdigest() == right
    _rows.append((fault, REQUESTS, before, 0, 0, 0, f"{seconds:.1f}"))


def times_ended(stage: Stage, names: list[str]) -> Counter[str]:
    """How often a record was written that says that an execution has ended. One that was killed before it could note
    what it had just written is not in it."""
    wanted = set(names)
    return Counter(e.execution_id for e in stage.entries() if e.what == "ended" and e.execution_id in wanted)
