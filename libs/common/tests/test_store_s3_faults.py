"""What becomes of calls when the S3 server dies, fills up, or the way to it is bad: all end, and none lies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backends.minio import MinIO
from backends.proxy import TcpProxy
from backends.pytest_fixtures import own_bucket
from backends.running import running
from backends.s3 import S3Server
from backends.small_disk import small_disk
from imageflow_common.errors import ImageFlowError, StorageFull, Unavailable, WriteConflict
from imageflow_common.store import ObjectKey, parse_key
from imageflow_common.store_s3 import S3Store
from imageflow_common.store_s3_client import S3Config

A = parse_key("a")
PNG = "image/png"
MIB = 1 << 20
SMALL_BYTES = 96 * MIB


@pytest.fixture
def own(tmp_path: Path) -> Iterator[S3Server]:
    """A MinIO to be ill-treated."""
    yield from running(MinIO(tmp_path / "minio"))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[S3Server]:
    """A MinIO on a small disk."""
    with small_disk(tmp_path / "small", f"{SMALL_BYTES}") as folder:
        yield from running(MinIO(folder))


@pytest.fixture
def config(minio: S3Server) -> S3Config:
    return impatient(own_bucket(minio))


def impatient(config: S3Config) -> S3Config:
    return replace(config, attempt=timedelta(seconds=1), deadline=timedelta(seconds=3))


@asynccontextmanager
async def connected(config: S3Config) -> AsyncIterator[S3Store]:
    store = await S3Store.connect(config)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def through_proxy(config: S3Config, server: S3Server) -> AsyncIterator[tuple[S3Store, TcpProxy]]:
    async with (
        TcpProxy(server.ports["main"]) as proxy,
        connected(replace(config, endpoint=f"http://127.0.0.1:{proxy.port}")) as store,
    ):
        yield store, proxy


async def test_what_was_acknowledged_outlives_a_killed_server(own: S3Server) -> None:
    """SIGKILL under load; restarted on the same data, everything that was said to be stored is there, whole."""
    kept: dict[str, bytes] = {}
    failed: list[ImageFlowError] = []

    async def write(worker: int) -> None:
        for number in range(1000):
            key, data = parse_key(f"{worker}/{number}"), os.urandom(20_000)
            try:
                await store.put(key, data, media_type=PNG, if_absent=True)
            except ImageFlowError as exc:
                failed.append(exc)
                return
            kept[key] = data

    async with connected(impatient(own_bucket(own))) as store:
        writing = [asyncio.create_task(write(worker)) for worker in range(8)]
        while len(kept) < 100:  # noqa: ASYNC110 - it is enough under way
            await asyncio.sleep(0.01)
        own.kill()
        async with asyncio.timeout(30):
            await asyncio.gather(*writing)
        assert [type(exc) for exc in failed] == [Unavailable] * 8
        await asyncio.to_thread(own.start)
        for key, data in kept.items():
            assert (await store.get(parse_key(key))).data == data
        await store.put(A, b"after", media_type=PNG)


async def fill(store: S3Store, keys: list[ObjectKey]) -> int:
    """Puts 4 MiB under each until the store is full; answers how many it took."""
    for stored, key in enumerate(keys):
        try:
            await store.put(key, os.urandom(4 * MIB), media_type=PNG)
        except StorageFull:
            return stored
    raise AssertionError("it never was full")


async def test_a_full_disk_is_told_and_reading_and_deleting_go_on(small: S3Server) -> None:
    async with connected(impatient(own_bucket(small))) as store:
        keys = [parse_key(f"{number}") for number in range(SMALL_BYTES // MIB)]
        stored = await fill(store, keys)
        assert 2 <= stored < len(keys)

        async def stream() -> AsyncIterator[bytes]:
            for _ in range(SMALL_BYTES // MIB):
                yield os.urandom(MIB)

        with pytest.raises(StorageFull):
            await store.put(A, stream(), media_type=PNG)
        assert len((await store.get(keys[0])).data) == 4 * MIB
        assert len((await store.list("")).items) == stored
        for key in keys[:stored]:
            await store.delete(key)
        await store.put(A, b"there is room again", media_type=PNG)


async def test_a_slow_way_is_only_slow(config: S3Config, minio: S3Server) -> None:
    async with through_proxy(config, minio) as (store, proxy):
        proxy.weather.latency_seconds = 0.05
        data = os.urandom(MIB)
        await store.put(A, data, media_type=PNG)
        assert (await store.get(A)).data == data


async def test_a_reset_connection_is_made_again(config: S3Config, minio: S3Server) -> None:
    async with through_proxy(config, minio) as (store, proxy):
        first = await store.put(A, b"1", media_type=PNG)
        before = proxy.accepted
        await proxy.reset_all()
        assert (await store.get(A)).data == b"1"
        await proxy.reset_all()
        await store.put(A, b"2", media_type=PNG, if_generation=first.generation)
        assert proxy.accepted >= before + 2


async def test_a_request_that_arrives_in_part_is_sent_again(config: S3Config, minio: S3Server) -> None:
    async with through_proxy(config, minio) as (store, proxy):
        data = os.urandom(MIB)
        await proxy.reset_all()
        proxy.weather.ends_requests_after_bytes = MIB // 2
        await store.put(A, data, media_type=PNG, if_absent=True)
        assert proxy.weather.ends_requests_after_bytes is None
        assert (await store.get(A)).data == data


async def test_an_answer_that_is_cut_off_is_asked_for_again_and_never_taken_for_whole(
    config: S3Config, minio: S3Server
) -> None:
    async with through_proxy(config, minio) as (store, proxy):
        data = os.urandom(2 * MIB)
        await store.put(A, data, media_type=PNG)
        proxy.weather.resets_after_bytes = MIB
        reading = asyncio.create_task(store.get(A))
        before = proxy.accepted
        while proxy.accepted == before:  # noqa: ASYNC110 - until it was asked for again
            await asyncio.sleep(0.005)
        proxy.weather.resets_after_bytes = None
        assert (await reading).data == data
        proxy.weather.resets_after_bytes = MIB
        with pytest.raises(Unavailable):
            await store.get(A)


@pytest.mark.parametrize("swallows", ["swallows_requests", "swallows_answers"])
async def test_a_way_that_swallows_everything_ends_in_time_and_heals(
    config: S3Config, minio: S3Server, swallows: str
) -> None:
    async with through_proxy(config, minio) as (store, proxy):
        await store.put(A, b"1", media_type=PNG)
        setattr(proxy.weather, swallows, True)
        calls = [
            store.put(parse_key("b"), b"2", media_type=PNG),
            store.put(parse_key("c"), os.urandom(8 * MIB), media_type=PNG),
            store.get(A),
            store.list(""),
        ]
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [getattr(outcome, "reason", outcome) for outcome in outcomes] == ["STORE_TIMEOUT"] * 4
        setattr(proxy.weather, swallows, False)
        await proxy.reset_all()
        assert (await store.get(A)).data == b"1"


async def test_a_conditional_write_whose_answer_is_swallowed_is_known_for_ones_own(
    config: S3Config, minio: S3Server
) -> None:
    """The server has written when the connection breaks; the client sends it again, and is refused."""
    async with through_proxy(config, minio) as (store, proxy), connected(config) as other:
        proxy.weather.swallows_answers = True
        writing = asyncio.create_task(store.put(A, b"mine", media_type=PNG, if_absent=True))
        while not (await other.list("")).items:  # noqa: ASYNC110 - it asks the server
            await asyncio.sleep(0.01)
        proxy.weather.swallows_answers = False
        await proxy.reset_all()
        info = await writing
        assert info.generation == (await other.head(A)).generation
        with pytest.raises(WriteConflict):
            await store.put(A, b"another", media_type=PNG, if_absent=True)
