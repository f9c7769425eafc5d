"""What keeping every intermediate adds to a run of P3 whose images are in a bucket, beside two bare writes."""

from __future__ import annotations

import json
import os
import urllib.request
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from backends.minio import MinIO

from .photograph import coins_jpeg
from .product import product
from .samples import percentile
from .workloads import WORKLOADS

INPUT, OUTPUT = "coins.jpg", "out.png"

Write = Callable[[str, bytes], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Kept:
    """Milliseconds that a caller of `:execute` waited, without and with intermediates kept, in turn; of the runs that
    kept them, the objects' sizes in bytes."""

    without: list[float]
    with_all: list[float]
    intermediates: dict[str, int]
    output_bytes: int
    record_bytes: int

    @property
    def added_ms(self) -> float:
        return percentile(self.with_all, 50) - percentile(self.without, 50)


def measure_kept(server: MinIO, rounds: int) -> Kept:
    """Raises NotStarted."""
    with product(shared_memory=True, environment=server.settings()) as running:
        upload = urllib.request.Request(
            f"{running.url}/v1/images/{INPUT}", coins_jpeg(), {"Content-Type": "image/jpeg"}, method="PUT"
        )
        urllib.request.urlopen(upload, timeout=30).close()
        taken: dict[str, list[float]] = {"NEVER": [], "ALWAYS": []}
        for number in range(rounds + 5):
            for persist in ("NEVER", "ALWAYS") if number % 2 else ("ALWAYS", "NEVER"):
                milliseconds, execution = _execute(running.url, persist)
                if number >= 5:
                    taken[persist].append(milliseconds)
                if persist == "ALWAYS":
                    kept = execution
        paths = {name: step.get("outputPath") for name, step in kept["results"].items()}
        sizes = {name: _size(running.url, path) for name, path in paths.items() if path}
        return Kept(taken["NEVER"], taken["ALWAYS"], sizes, _size(running.url, OUTPUT), len(json.dumps(kept)))


async def writes_alone(write: Write, kept: Kept, rounds: int) -> float:
    """The median of writing an object of the output's size and one of the record's, one after the other."""
    output, record = os.urandom(kept.output_bytes), os.urandom(kept.record_bytes)
    taken: list[float] = []
    for _ in range(rounds):
        begun = perf_counter()
        await write("alone-output", output)
        await write("alone-record", record)
        taken.append((perf_counter() - begun) * 1e3)
    return percentile(taken, 50)


def report_kept(kept: Kept, alone_ms: float) -> str:
    rows = "".join(
        f"| {name} | {percentile(times, 50):.1f} | {percentile(times, 95):.1f} |\n"
        for name, times in (("none", kept.without), ("all", kept.with_all))
    )
    sizes = ", ".join(f"{step} {count / 1e6:.2f} MB" for step, count in kept.intermediates.items())
    return f"""
## What keeping intermediates adds

| P3 by `:execute`, its objects in MinIO; intermediates kept | p50 ms | p95 ms |
| --- | ---: | ---: |
{rows}
Keeping them ({sizes}) adds {kept.added_ms:.1f} ms at p50. Bare aiobotocore writes an object of the output's size
({kept.output_bytes:,} bytes) and one of the record's ({kept.record_bytes:,} bytes), one after the other, in
{alone_ms:.1f} ms.
"""


def _execute(url: str, persist: str) -> tuple[float, dict[str, Any]]:
    definition = next(each for each in WORKLOADS if each.name == "P3").definition()
    for step in definition["steps"]:
        step["persist"] = persist
    asked = {
        "pipeline": definition,
        "inputPath": INPUT,
        "outputPath": OUTPUT,
        "outputFormat": "png",
        "executionId": uuid.uuid4().hex,
    }
    request = urllib.request.Request(f"{url}/v1/pipelines:execute", json.dumps(asked).encode())
    begun = perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        execution = json.load(answer)
    milliseconds = (perf_counter() - begun) * 1e3
    if execution["status"] != "COMPLETED":
        raise SystemExit(f"a run failed: {execution}")
    return milliseconds, execution


def _size(url: str, key: str) -> int:
    with urllib.request.urlopen(f"{url}/v1/images/{key}", timeout=60) as answer:
        return len(answer.read())
