"""Measures our store on S3 beside bare aiobotocore: an object written, and an object read; and what it costs a run to
keep its intermediates there.

    python -m benchmarks.store [--quick] [--output DIR]

Writes store.md. Both take turns in one process, against one MinIO, an object at a time, each awaited before the next,
over connections that are kept. *As it comes* is aiobotocore with nothing configured, which signs what it writes with
its SHA-256 and sends and checks a CRC-32. *Stripped* has no checksum at all, and does without the header `Expect`;
*with its SHA-256* it computes that, and checks it on what it reads, as ours does: there the server checks it as well.
Needs a real MinIO, which it starts, and a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from backends.minio import MinIO
from backends.s3 import ACCESS_KEY, SECRET_KEY
from imageflow_common.store import parse_key
from imageflow_common.store_s3 import S3Store
from imageflow_common.store_s3_client import Credentials, S3Config

from .environment import read_environment
from .samples import percentile
from .store_kept import measure_kept, report_kept, writes_alone

RESULTS = Path(__file__).parent / "results"
BUCKET = "measured"
SIZES = {"1 kB": 1_000, "6 MB": 6_000_000}
AS_IT_COMES, STRIPPED, HASHED, OURS = (
    "aiobotocore as it comes",
    "stripped",
    "stripped, with its SHA-256",
    "ours",
)
_TYPE = "application/octet-stream"
_STRIPPED = AioConfig(
    signature_version="s3v4",
    s3={"addressing_style": "path", "payload_signing_enabled": False},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    tcp_keepalive=True,
)

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Amount:
    rounds: int
    runs: int


FULL = Amount(rounds=300, runs=100)
QUICK = Amount(rounds=3, runs=3)


async def measure(endpoint: str, amount: Amount) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Milliseconds by (what is done, size) and by who does it."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    async with AsyncExitStack() as closing:
        store = await S3Store.connect(
            S3Config(BUCKET, endpoint=endpoint, credentials=Credentials(ACCESS_KEY, SECRET_KEY), create_bucket=True)
        )
        closing.push_async_callback(store.close)
        plain = await closing.enter_async_context(_client(endpoint))
        stripped = await closing.enter_async_context(_client(endpoint, _STRIPPED))
        stripped.meta.events.register("before-sign.s3", _drop_expect)
        for size, count in SIZES.items():
            for done, ways in _ways(store, plain, stripped, os.urandom(count)).items():
                found[done, size] = await _in_turn(ways, amount)
    return found


def _ways(store: S3Store, plain: Any, stripped: Any, data: bytes) -> dict[str, dict[str, Work]]:
    """`read` reads what `write` has written last."""

    async def write(client: Any, key: str, **more: Any) -> None:
        await client.put_object(Bucket=BUCKET, Key=key, Body=data, ContentType=_TYPE, **more)

    async def write_hashed() -> None:
        await write(stripped, "hashed", Metadata={"sha256": hashlib.sha256(data).hexdigest()})

    async def write_ours() -> None:
        await store.put(parse_key("ours"), data, media_type=_TYPE)

    async def read(client: Any, key: str) -> bytes:
        answer = await client.get_object(Bucket=BUCKET, Key=key)
        async with answer["Body"] as body:
            read: bytes = await body.read()
        return read

    async def read_hashed() -> None:
        assert hashlib.sha256(await read(stripped, "hashed")).digest() == hashlib.sha256(data).digest()

    async def read_ours() -> None:
        assert len((await store.get(parse_key("ours"))).data) == len(data)

    return {
        "written": {
            AS_IT_COMES: lambda: write(plain, "plain"),
            STRIPPED: lambda: write(stripped, "stripped"),
            HASHED: write_hashed,
            OURS: write_ours,
        },
        "read": {
            AS_IT_COMES: lambda: read(plain, "plain"),
            STRIPPED: lambda: read(stripped, "stripped"),
            HASHED: read_hashed,
            OURS: read_ours,
        },
    }


async def _in_turn(ways: dict[str, Work], amount: Amount) -> dict[str, list[float]]:
    """An object each, in an order that changes; the first tenth warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(amount.rounds + amount.rounds // 10):
        for name in names if number % 2 else reversed(names):
            begun = perf_counter()
            await ways[name]()
            if number >= amount.rounds // 10:
                taken[name].append((perf_counter() - begun) * 1e3)
    return taken


def _client(endpoint: str, config: AioConfig | None = None) -> AbstractAsyncContextManager[Any]:
    made: AbstractAsyncContextManager[Any] = get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=config,
    )
    return made


def _drop_expect(request: Any, **_: Any) -> None:
    del request.headers["Expect"]


def report(found: dict[tuple[str, str], dict[str, list[float]]]) -> str:
    where = read_environment()
    lines = [
        "# The store on S3",
        "",
        f"{where.date}, commit {where.commit}, {where.cpu}, {where.cores} cores, Python {where.python}; load average "
        f"at the start {where.load_average}. By `python -m benchmarks.store`, whose first lines say what is measured.",
        "",
        "| An object | by | p50 ms | p95 ms | of aiobotocore as it comes | of stripped | of that with its SHA-256 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (done, size), ways in found.items():
        bases = [percentile(ways[name], 50) for name in (AS_IT_COMES, STRIPPED, HASHED)]
        for name, times in ways.items():
            p50, p95 = percentile(times, 50), percentile(times, 95)
            of_each = " | ".join(f"{p50 / base:.2f}" for base in bases)
            lines.append(f"| {size} {done} | {name} | {p50:.2f} | {p95:.2f} | {of_each} |")
    return "\n".join([*lines, ""])


async def _measured(server: MinIO, amount: Amount) -> str:
    objects = report(await measure(server.endpoint, amount))
    kept = await asyncio.to_thread(measure_kept, server, amount.runs)
    async with _client(server.endpoint) as client:

        async def write(key: str, data: bytes) -> None:
            await client.put_object(Bucket=BUCKET, Key=key, Body=data, ContentType=_TYPE)

        return objects + report_kept(kept, await writes_alone(write, kept, amount.runs))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shows that it works, measures nothing")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imageflow-benchmark-s3-") as folder:
        server = MinIO(Path(folder))
        server.start()
        try:
            text = asyncio.run(_measured(server, QUICK if asked.quick else FULL))
        finally:
            server.kill()
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "store.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
