"""Two orchestrators on MinIO and Kafka with work in flight: whatever befalls a server or the way to it, every request
ends exactly once, with the right output, and is told of once (R42, R53, R55, D8)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic

import pytest
import pytest_asyncio

from backends.kafka import KafkaServer
from backends.minio import MinIO
from backends.proxy import TcpProxy, Weather
from backends.pytest_fixtures import own_bucket
from backends.running import running
from backends.server import Server
from backends.small_disk import fill, small_disk
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics
from imageflow_common.store import ObjectKey
from imageflow_common.store_s3 import S3Store
from imageflow_orchestrator.news import TOPICS
from tests.kafka.office import Office

from . import pictures
from .by_message import ended_among, message, no_marker, until_all_have_ended, until_told
from .proving import PROVE, share_of, table, write_report
from .shapes import INPUT, QUICK, reference
from .stage import Stage, eventually, staged

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900 if PROVE else 240)]

REQUESTS = share_of(200) if PROVE else 24
PARTITIONS = 6
SESSION_SECONDS = 2.0
AWAY_SECONDS = 3 * SESSION_SECONDS
"""Longer than every time-out of the orchestrators here but the execution's own."""
WITHIN_SECONDS = 240.0 if PROVE else 120.0


@dataclass(frozen=True, slots=True)
class Servers:
    """The two, and the ways to them."""

    minio: MinIO
    kafka: KafkaServer
    to_minio: TcpProxy
    to_kafka: TcpProxy


Fault = Callable[[Servers], Awaitable[None]]


def killed(name: str) -> Fault:
    async def kill(servers: Servers) -> None:
        server: Server = getattr(servers, name)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    return kill


def stopped(name: str) -> Fault:
    async def stop(servers: Servers) -> None:
        server: Server = getattr(servers, name)
        server.pause()
        await asyncio.sleep(AWAY_SECONDS)
        server.resume()

    return stop


def weather(name: str, bad: Weather) -> Fault:
    """For a while; then what was connected meanwhile is reset, as a network does that comes back."""

    async def befall(servers: Servers) -> None:
        proxy: TcpProxy = getattr(servers, name)
        proxy.weather = bad
        await asyncio.sleep(AWAY_SECONDS)
        proxy.weather = Weather()
        await proxy.reset_all()

    return befall


def resets(name: str) -> Fault:
    async def reset(servers: Servers) -> None:
        proxy: TcpProxy = getattr(servers, name)
        for _ in range(5):
            await proxy.reset_all()
            await asyncio.sleep(0.2)

    return reset


async def full(servers: Servers) -> None:
    """Not a byte is left for as long, then there is room again."""
    filling = await asyncio.to_thread(fill, servers.minio.data)
    await asyncio.sleep(AWAY_SECONDS)
    filling.unlink()


CUT = Weather(swallows_requests=True, swallows_answers=True)
HALF_OPEN = Weather(swallows_answers=True)
SLOW = Weather(latency_seconds=0.1)
SHORT: dict[str, Fault] = {
    "MinIO is killed": killed("minio"),
    "the way to the broker is cut": weather("to_kafka", CUT),
}
LONG: dict[str, Fault] = {
    "MinIO is stopped": stopped("minio"),
    "the way to MinIO is half open": weather("to_minio", HALF_OPEN),
    "the disk of MinIO is full": full,
    "the broker is killed": killed("kafka"),
    "the broker is stopped": stopped("kafka"),
    "the way to MinIO is cut": weather("to_minio", CUT),
    "the way to MinIO is slow": weather("to_minio", SLOW),
    "connections to MinIO are reset": resets("to_minio"),
    "the way to the broker is half open": weather("to_kafka", HALF_OPEN),
    "the way to the broker is slow": weather("to_kafka", SLOW),
    "connections to the broker are reset": resets("to_kafka"),
}
FAULTS = {**SHORT, **(LONG if PROVE else {})}
_rows: list[tuple[object, ...]] = []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    kafka, minio = KafkaServer(folder / "kafka"), MinIO(folder / "minio")
    with small_disk(minio.data, "256m"):
        for _ in running(minio):
            async with TcpProxy(minio.ports["main"]) as to_minio, TcpProxy(kafka.ports["proxied"]) as to_kafka:
                kafka.proxy_port = to_kafka.port
                for _ in running(kafka):
                    yield Servers(minio, kafka, to_minio, to_kafka)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage") / "product", "resize", "filter") as stage:
        stage.program = "imageflow_orchestrator"
        yield stage
    if PROVE and _rows:
        head = ("fault", "executions", "ended when it fell", "lost", "told twice", "seconds to the end")
        write_report("servers", "MinIO and Kafka, with work in flight", __doc__ or "", table(head, _rows))


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_request_ends_once_and_is_told_of_once(
    stage: Stage, servers: Servers, kafka_settings: KafkaSettings, fault: str
) -> None:
    config = own_bucket(servers.minio)
    settings = kafka_settings.model_copy(update={"bootstrap_servers": servers.kafka.bootstrap_servers})
    await asyncio.to_thread(create_topics, settings, TOPICS, partitions=PARTITIONS)
    stage.settings = {
        **servers.minio.settings(),
        "IMAGEFLOW_STORE_URL": f"s3://{config.bucket}",
        "IMAGEFLOW_S3_ENDPOINT": f"http://127.0.0.1:{servers.to_minio.port}",
        "IMAGEFLOW_S3_ATTEMPT_SECONDS": "1",
        "IMAGEFLOW_S3_DEADLINE_SECONDS": "3",
        "IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{servers.to_kafka.port}",
        "IMAGEFLOW_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
        "IMAGEFLOW_KAFKA_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        "IMAGEFLOW_KAFKA_TIMEOUT_SECONDS": "2",
    }
    names = [f"{fault.replace(' ', '-')}-{each}" for each in range(REQUESTS)]
    log = stage.folder / "orchestrator.log"
    async with AsyncExitStack() as closing:
        store = await S3Store.connect(config)
        closing.push_async_callback(store.close)
        lives = [await closing.enter_async_context(stage.live()) for _ in range(2)]
        await lives[0].upload(INPUT, pictures.coins())
        await eventually(lambda: all('"kafka.holding"' in life.process.said for life in lives))
        stage.fault("resize", delay_seconds=0.2)
        office = await asyncio.to_thread(Office, settings)
        for name in names:
            await asyncio.to_thread(office.post, message(QUICK, name), key=name)
        await eventually(lambda: ended_among(store, names), every=0.1)
        before = len(await ended_among(store, names))
        began = monotonic()

        await FAULTS[fault](servers)

        await until_all_have_ended(store, names, log, within=WITHIN_SECONDS)
        told = await until_told(office, len(names), within=WITHIN_SECONDS)
        await eventually(lambda: no_marker(store), within=WITHIN_SECONDS)
        seconds = monotonic() - began
        dead = await asyncio.to_thread(office.dead)
        await asyncio.to_thread(office.check_schemas, "pipeline-completions", "pipeline-progress", "pipeline-control")
        await asyncio.to_thread(office.close)

        assert before < REQUESTS, "the fault fell into nothing"
        statuses = {name: [each["status"] for each in told[name]] for name in names}
        assert statuses == {name: ["completed"] for name in names}
        assert dead == []
        right = await reference(QUICK)
        for name in names:
            stored = await store.get(ObjectKey(told[name][0]["output_path"]))
            assert hashlib.sha256(stored.data).hexdigest() == right
    _rows.append((fault, REQUESTS, before, 0, 0, f"{seconds:.1f}"))
