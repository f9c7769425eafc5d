"""Measures what a step costs beside its own work: a chain of components that do nothing, beside a bare gRPC echo.

    python -m benchmarks.engine [--requests N]

A pipeline of one step and a pipeline of eleven take turns on an image of 1 kB; a tenth of the difference of their
medians is the price of a step. Decoding, which each step does with an encoded image, is taken off. The echo is a
grpc.aio server on uvloop in a process of its own, called with 1 kB by a grpc.aio client.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import grpc
import numpy as np
import uvloop

from imageflow_common.images import encode
from imageflow_common.pixels import Pixels

from .client import Connection
from .product import product
from .samples import Sample, mean_parts, percentile
from .server_timing import read_parts

_NOOP = Path(__file__).with_name("noop.py")
_FEW, _MANY = 1, 11
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Chain:
    """A pipeline of so many steps that do nothing, each after the one before."""

    length: int

    @property
    def pipeline_id(self) -> str:
        return f"noop-{self.length}"

    def definition(self) -> dict[str, Any]:
        names = [f"s{number}" for number in range(self.length)]
        steps = [
            {"stepId": name, "componentName": "noop", "dependencies": [before] if before else []}
            for before, name in zip(["", *names], names, strict=False)
        ]
        return {"pipelineId": self.pipeline_id, "version": "1.0.0", "steps": steps}


def measure_steps(requests: int) -> dict[int, list[Sample]]:
    """Samples of both chains, by their length, taken in turn."""
    chains, image = [Chain(_FEW), Chain(_MANY)], _image()
    with TemporaryDirectory() as folder:
        registry = Path(folder) / "components.yaml"
        registry.write_text(json.dumps({"components": {"noop": {"command": [sys.executable, str(_NOOP)]}}}))
        with product(shared_memory=True, registry=registry) as running:
            connection = Connection(running.url)
            for chain in chains:
                connection.store(chain)
            samples: dict[int, list[Sample]] = {chain.length: [] for chain in chains}
            for number in range(_WARM_UP + requests):
                for chain in chains:
                    answer = connection.process(chain, image, "image/png")
                    if number >= _WARM_UP:
                        parts = read_parts(answer.server_timing, answer.wall_ms)
                        samples[chain.length].append(Sample(answer.wall_ms, parts))
            connection.close()
    return samples


async def measure_echo(requests: int, size_bytes: int) -> list[float]:
    """Milliseconds of each call."""
    times: list[float] = []
    with _echo_server() as port:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/benchmark.Echo/Echo")
            for number in range(_WARM_UP + requests):
                started = perf_counter()
                await call(bytes(size_bytes), timeout=10)
                if number >= _WARM_UP:
                    times.append((perf_counter() - started) * 1e3)
    return times


@contextmanager
def _echo_server() -> Iterator[int]:
    with subprocess.Popen([sys.executable, str(_NOOP), "echo"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _image() -> bytes:
    """A PNG of noise, of 1 kB."""
    noise = np.random.default_rng(0).integers(0, 256, (17, 18, 3), np.uint8)
    return encode(Pixels(noise), media_type="image/png")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=300, metavar="N", help="of each kind (300)")
    requests = parser.parse_args().requests
    samples = measure_steps(requests)
    few, many = ([sample.wall_ms for sample in samples[length]] for length in (_FEW, _MANY))
    steps = _MANY - _FEW
    step = (percentile(many, 50) - percentile(few, 50)) / steps
    decode = (mean_parts(samples[_MANY])["decode"] - mean_parts(samples[_FEW])["decode"]) / steps
    echo = uvloop.run(measure_echo(requests, len(_image())))
    print(f"one step through the gateway  {percentile(few, 50):6.2f} ms")
    print(f"each further step             {step:6.2f} ms, {step - decode:.2f} without decoding")
    print(f"bare echo of {len(_image())} bytes       {percentile(echo, 50):6.2f} ms")


if __name__ == "__main__":
    main()
