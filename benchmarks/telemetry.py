"""Measures what telemetry costs a request: P3 through the gateway with it off, with metrics alone, with one request in
ten traced, and with everything traced.

    python -m benchmarks.telemetry [--quick] [--output DIR]

Writes telemetry.md. The systems stand side by side and take turns, request by request, so that whatever else the
machine does befalls all of them; each that exports does so to a collector of its own, set up as for one machine, which
is part of the cost on a machine that has no other. Wants a quiet machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from backends.otelcol import OtelCollector

from .client import Connection, run_block, run_load, store_pipelines
from .environment import read_environment
from .photograph import coins_jpeg
from .product import product
from .samples import percentile
from .workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
P3: Final = WORKLOADS[2]
SAMPLED: Final[Mapping[str, Mapping[str, str] | None]] = {
    "off": None,
    "metrics alone": {"OTEL_TRACES_SAMPLER": "always_off"},
    "one in ten": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
    "everything": {},
}


@dataclass(frozen=True, slots=True)
class Amount:
    rounds: int
    requests: int
    seconds: float


FULL = Amount(rounds=8, requests=60, seconds=6.0)
QUICK = Amount(rounds=1, requests=3, seconds=0.5)
IN_FLIGHT: Final = 8


@dataclass
class Measured:
    """Milliseconds of single requests, and requests a second with several in flight."""

    wall_ms: list[float] = field(default_factory=list)
    throughput: list[float] = field(default_factory=list)
    errors: int = 0


@contextmanager
def system(folder: Path, sampling: Mapping[str, str] | None) -> Iterator[str]:
    """Its URL."""
    with ExitStack() as ending:
        environment: dict[str, str] = {}
        if sampling is not None:
            collector = OtelCollector(folder / "otelcol")
            collector.start()
            ending.callback(collector.kill)
            environment = {**collector.settings(), **sampling}
        running = ending.enter_context(product(shared_memory=True, environment=environment))
        store_pipelines(running.url)
        yield running.url


def measure(amount: Amount) -> dict[str, Measured]:
    found = {name: Measured() for name in SAMPLED}
    jpeg = coins_jpeg()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        urls = {name: ending.enter_context(system(Path(folder) / name, sampling)) for name, sampling in SAMPLED.items()}
        expected = {name: run_block(url, P3, jpeg, warm_up=10, count=1).output for name, url in urls.items()}
        for number in range(amount.rounds):
            order = list(urls)[number % len(urls) :] + list(urls)[: number % len(urls)]
            in_turns(urls, order, jpeg, amount.requests, found)
            for name in order:
                load = run_load(urls[name], P3, jpeg, expected[name], in_flight=IN_FLIGHT, seconds=amount.seconds)
                found[name].throughput.append(load.completed / load.seconds)
                found[name].errors += sum(load.errors.values())
            print(f"round {number + 1} of {amount.rounds}", file=sys.stderr, flush=True)
    return found


def in_turns(urls: Mapping[str, str], order: list[str], jpeg: bytes, requests: int, found: dict[str, Measured]) -> None:
    connections = {name: Connection(url) for name, url in urls.items()}
    try:
        for _ in range(requests):
            for name in order:
                found[name].wall_ms.append(connections[name].process(P3, jpeg).wall_ms)
    finally:
        for connection in connections.values():
            connection.close()


def as_markdown(found: Mapping[str, Measured]) -> str:
    environment = read_environment()
    off = found["off"]
    base_rate = percentile(off.throughput, 50)
    rows = [
        f"| {name} | {percentile(each.wall_ms, 50):.2f} | {percentile(_more(each, off), 50):+.2f} "
        f"| {percentile(each.wall_ms, 95):.2f} | {percentile(each.throughput, 50):.1f} "
        f"| {100 * (percentile(each.throughput, 50) / base_rate - 1):+.1f} % | {each.errors} |"
        for name, each in found.items()
    ]
    return "\n".join(
        [
            "# What telemetry costs",
            "",
            f"P3 (resize → detect → filter) on a 1920×1080 JPEG, {len(off.wall_ms)} requests to each, "
            f"one after the other in turns, then {len(off.throughput)} times {IN_FLIGHT} in flight. The collectors ran "
            "on the same machine, and are in the figures.",
            "",
            f"{environment.date}, commit {environment.commit}, {environment.cpu}, {environment.cores} cores, Python "
            f"{environment.python}, load average at the start {environment.load_average}.",
            "",
            "| telemetry | p50, ms | more than off, p50 of pairs | p95, ms | requests a second | than off | errors |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _more(measured: Measured, off: Measured) -> list[float]:
    """Milliseconds than the request before or after it that went to the system without telemetry."""
    return [ours - theirs for ours, theirs in zip(measured.wall_ms, off.wall_ms, strict=True)]


def main(arguments: list[str] | None = None) -> int:
    """Answers the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telemetry", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few requests only: shows that it works")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args(arguments)
    found = measure(QUICK if options.quick else FULL)
    report = as_markdown(found)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "telemetry.md").write_text(report, encoding="utf-8")
    print(report)
    return 1 if any(each.errors for each in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
