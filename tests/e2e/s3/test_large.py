"""What is larger than memory should hold (R4)."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.callers import MIB, Callers
from tests.e2e.product import Product

SIZE_BYTES = (500 if os.environ.get("IMAGEFLOW_PROVE") else 96) * MIB
GROWTH_BYTES = 64 * MIB


def test_a_large_object_goes_up_and_comes_down_in_bounded_memory(callers: Callers, product: Product) -> None:
    pid = product.pids()["orchestrator"]
    callers.http.put("/v1/images/large/warm", content=bytes(16 * MIB)).raise_for_status()
    before = reset_peak(pid)
    sent = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        noise = random.Random(1)
        for _ in range(SIZE_BYTES // MIB):
            chunk = noise.randbytes(MIB)
            sent.update(chunk)
            yield chunk

    response = callers.http.put("/v1/images/large/object", content=chunks(), timeout=300)
    assert response.is_success, response.text
    stored = response.json()
    assert (stored["sizeBytes"], stored["sha256"]) == (str(SIZE_BYTES), sent.hexdigest())
    after_upload = peak(pid)

    got, size = hashlib.sha256(), 0
    with callers.http.stream("GET", "/v1/images/large/object", timeout=300) as answer:
        for chunk in answer.iter_bytes():
            got.update(chunk)
            size += len(chunk)
    assert (size, got.hexdigest()) == (SIZE_BYTES, sent.hexdigest())
    grown = {"upload": (after_upload - before) // MIB, "download": (peak(pid) - before) // MIB}
    print(f"{SIZE_BYTES // MIB} MiB: the orchestrator grew by {grown} MiB")
    assert max(grown.values()) * MIB <= GROWTH_BYTES
    assert callers.http.delete("/v1/images/large/object").is_success


def reset_peak(pid: int) -> int:
    """Answers what the process holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def peak(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
