"""The collector killed, stopped and slow, and the trace store dead, while requests come: none of them fails or takes
longer for it, memory stays bounded, and what was lost is counted and shown."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
import pytest

from backends.proxy import TcpProxy
from tests.crash.proving import table, write_report
from tests.e2e import pictures
from tests.e2e.product import Product, eventually

from .conftest import PROVE
from .stack import Stack, stack

pytestmark = [
    pytest.mark.skipif(not PROVE, reason="only with IMAGEFLOW_PROVE, which builds the collector and Loki"),
    pytest.mark.timeout(900),
]
LOADERS = 2
MEANWHILE = 1_500
"""Requests that are answered while something is wrong: more spans than a service keeps for a collector."""
MORE_MEMORY_MIB = 64
COLLECTOR_MIB = 400
LOST = 'sum(otel_sdk_exporter_span_exported{error_type!=""})'
UNTAKEN = "sum(otelcol_exporter_send_failed_spans) or sum(otelcol_exporter_enqueue_failed_spans)"
ENVIRONMENT = {"OTEL_EXPORTER_OTLP_TIMEOUT": "2", "OTEL_BSP_MAX_QUEUE_SIZE": "512"}
ROWS: list[tuple[object, ...]] = []


@dataclass
class Load:
    """Requests as they were answered: status and milliseconds."""

    answers: list[tuple[int, float]] = field(default_factory=list)

    def more(self, count: int) -> list[tuple[int, float]]:
        """So many further ones."""
        begun = len(self.answers)
        eventually(lambda: len(self.answers) >= begun + count, within=300)
        return self.answers[begun:]


@contextmanager
def running(folder: Path, slow: Callable[[int], object] | None = None) -> Iterator[Stack]:
    with stack(folder, environment=ENVIRONMENT, otlp_endpoint=slow) as on:  # type: ignore[arg-type]
        step = {"stepId": "small", "componentName": "resize", "parameters": {"width": 16}}
        on.define({"pipelineId": "good", "version": "1.0.0", "steps": [step]})
        yield on


@contextmanager
def loaded(on: Stack) -> Iterator[Load]:
    """Requests one after the other in each of some threads, while the block runs."""
    done, load, image = threading.Event(), Load(), pictures.photo(64, 64)

    def ask() -> None:
        while not done.is_set():
            begun = time.perf_counter()
            status = on.process("good", image).status_code
            load.answers.append((status, (time.perf_counter() - begun) * 1e3))

    threads = [threading.Thread(target=ask) for _ in range(LOADERS)]
    for thread in threads:
        thread.start()
    try:
        load.more(300)
        yield load
    finally:
        done.set()
        for thread in threads:
            thread.join()


def resident_mib(product: Product) -> dict[str, float]:
    return {name: psutil.Process(pid).memory_info().rss / 2**20 for name, pid in product.pids().items()}


@contextmanager
def trouble(on: Stack, name: str, begin: Callable[[], object], end: Callable[[], object]) -> Iterator[Load]:
    """Some hundred requests as ever, then more of them while something is wrong."""
    with loaded(on) as load:
        before, memory = load.more(500), resident_mib(on.product)
        begin()
        meanwhile = load.more(MEANWHILE)
        grown = max(now - memory[service] for service, now in resident_mib(on.product).items())
        end()
        assert {status for status, _ in before + meanwhile} == {200}
        assert grown < MORE_MEMORY_MIB
        ROWS.append((name, len(meanwhile), 0, _p50(before), _p50(meanwhile), f"{grown:.0f}"))
        yield load
        assert {status for status, _ in load.answers} == {200}


def _p50(answers: list[tuple[int, float]]) -> str:
    return f"{median(milliseconds for _, milliseconds in answers):.1f}"


@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_a_collector_that_is_gone_costs_no_request_and_what_is_lost_is_counted(
    tmp_path: Path, otelcol_program: str, way: str
) -> None:
    with running(tmp_path) as on:
        gone = (on.collector.kill, on.collector.start) if way == "killed" else (on.collector.pause, on.collector.resume)
        lost = on.number(LOST)
        with trouble(on, f"the collector is {way}", *gone):
            eventually(lambda: on.number(LOST) > lost, within=90)


def test_a_slow_collector_costs_no_request(tmp_path: Path, otelcol_program: str) -> None:
    proxies: list[TcpProxy] = []

    @contextmanager
    def between(port: int) -> Iterator[str]:
        with proxied(port) as proxy:
            proxies.append(proxy)
            yield f"http://127.0.0.1:{proxy.port}"

    def delay(seconds: float) -> None:
        proxies[0].weather.latency_seconds = seconds

    with running(tmp_path, between) as on, trouble(on, "the collector is slow", lambda: delay(1.0), lambda: delay(0)):
        eventually(lambda: on.number("sum(otelcol_receiver_accepted_spans)") > 0)


def test_a_dead_trace_store_is_reported_by_the_collector_which_stays_within_its_memory(
    tmp_path: Path, otelcol_program: str
) -> None:
    with running(tmp_path) as on, trouble(on, "the trace store is killed", on.zipkin.kill, lambda: None):
        eventually(lambda: on.number(UNTAKEN) > 0, within=150)
        assert on.number("max(otelcol_process_memory_rss)") < COLLECTOR_MIB * 2**20


def test_what_was_measured_is_reported() -> None:
    """Comes last; needs all of them."""
    if len(ROWS) < 4:
        pytest.skip("only when the others ran")
    head = ("fault", "requests meanwhile", "failed", "p50 before, ms", "p50 meanwhile, ms", "memory grown, MiB")
    write_report(
        "collector",
        "Telemetry, and nobody to take it",
        "The collector and the trace store in trouble while two callers send one request after the other, one small "
        "step each, which is where it would show: none fails. Memory is that of the service that grew most. What was "
        "lost is counted, and shown by the dashboard of the platform.",
        table(head, ROWS),
    )


@contextmanager
def proxied(port: int) -> Iterator[TcpProxy]:
    """A proxy to a port of this machine, on a loop of its own."""
    loop, proxy = asyncio.new_event_loop(), TcpProxy(port)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result()
        yield proxy
        asyncio.run_coroutine_threadsafe(proxy.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
