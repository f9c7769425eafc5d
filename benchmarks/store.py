"""Measures our store on S3 beside bare aiobotocore: an object written, and an object read; and what it costs a run to
keep its intermediates there.

    python -m benchmarks.store [--quick] [--output DIR]

Writes store.md. Both take turns in one process, against one MinIO, an object at a time, each awaited before the next,
over connections that are kept. The bare client is set up as a careful user would: path style, checksums only where the
server requires them, the header `Expect` dropped. Ours computes the SHA-256 of what it writes and checks it on what it
reads; *with its SHA-256* the bare client does too. Needs a real MinIO, which it starts, and a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
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
_TYPE = "application/octet-stream"

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
        client = await closing.enter_async_context(_bare_client(endpoint))
        for size, count in SIZES.items():
            for done, ways in _ways(store, client, os.urandom(count)).items():
                found[done, size] = await _in_turn(ways, amount)
    return found


def _ways(store: S3Store, client: Any, data: bytes) -> dict[str, dict[str, Work]]:
    """`read` reads what `write` has written last."""

    async def write_bare() -> None:
        await client.put_object(Bucket=BUCKET, Key="bare", Body=data, ContentType=_TYPE)

    async def write_hashed() -> None:
        metadata = {"sha256": hashlib.sha256(data).hexdigest()}
        await client.put_object(Bucket=BUCKET, Key="hashed", Body=data, ContentType=_TYPE, Metadata=metadata)

    async def write_ours() -> None:
        await store.put(parse_key("ours"), data, media_type=_TYPE)

    async def read_bare(key: str = "bare") -> bytes:
        answer = await client.get_object(Bucket=BUCKET, Key=key)
        async with answer["Body"] as body:
            read: bytes = await body.read()
        return read

    async def read_hashed() -> None:
        assert hashlib.sha256(await read_bare("hashed")).digest() == hashlib.sha256(data).digest()

    async def read_ours() -> None:
        assert len((await store.get(parse_key("ours"))).data) == len(data)

    return {
        "written": {"bare": write_bare, "bare, with its SHA-256": write_hashed, "ours": write_ours},
        "read": {"bare": read_bare, "bare, with its SHA-256": read_hashed, "ours": read_ours},
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


@asynccontextmanager
async def _bare_client(endpoint: str) -> AsyncIterator[Any]:
    making = get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": "path", "payload_signing_enabled": False},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            tcp_keepalive=True,
        ),
    )
    async with making as client:
        client.meta.events.register("before-sign.s3", _drop_expect)
        yield client


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
        "| An object | by | p50 ms | p95 ms | of bare | of bare with its SHA-256 |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for (done, size), ways in found.items():
        bare, hashed = (percentile(ways[name], 50) for name in ("bare", "bare, with its SHA-256"))
        for name, times in ways.items():
            p50, p95 = percentile(times, 50), percentile(times, 95)
            lines.append(f"| {size} {done} | {name} | {p50:.2f} | {p95:.2f} | {p50 / bare:.2f} | {p50 / hashed:.2f} |")
    return "\n".join([*lines, ""])


async def _measured(server: MinIO, amount: Amount) -> str:
    objects = report(await measure(server.endpoint, amount))
    kept = await asyncio.to_thread(measure_kept, server, amount.runs)
    async with _bare_client(server.endpoint) as client:

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
