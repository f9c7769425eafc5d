"""A real fault for each alert, until the real Prometheus says that it fires: how long that takes (R65).

Three systems side by side, each with a collector and a Prometheus that asks every 15 seconds, as configured.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.crash.proving import table, write_report
from tests.e2e import pictures
from tests.e2e.product import eventually

from .conftest import OBSERVABILITY, PROVE
from .stack import Stack, image_inputs, stack

pytestmark = [
    pytest.mark.skipif(not PROVE, reason="only with IMAGEFLOW_PROVE, which takes twenty minutes"),
    pytest.mark.timeout(3_600),
]
ALERTS = {
    each["alert"]: str(each["for"])
    for group in yaml.safe_load((OBSERVABILITY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for each in group["rules"]
}
CALLERS = 75
QUIET_SECONDS = 60
"""How long all goes well before the fault: no alert may fire then."""
LONGEST_SECONDS = 25 * 60


@dataclass
class Faults:
    """Alerts with the fault that they should fire for, and when that began."""

    what: dict[str, str]
    since: float = 0.0
    fired: dict[str, float] = field(default_factory=dict)

    def watch(self, on: Stack) -> None:
        """Until all have fired."""
        while len(self.fired) < len(self.what):
            missing = self.what.keys() - self.fired.keys()
            assert time.monotonic() - self.since < LONGEST_SECONDS, f"never fired: {missing}"
            for name in on.firing() & self.what.keys() - self.fired.keys():
                self.fired[name] = time.monotonic() - self.since
            time.sleep(1)


def component(name: str, width: int, **more: object) -> dict[str, Any]:
    step = {"stepId": "one", "componentName": "faulty", "parameters": {"width": width}, **more}
    return {"pipelineId": name, "version": "1.0.0", "steps": [step]}


@contextmanager
def system(folder: Path) -> Iterator[Stack]:
    folder.mkdir()
    shutil.copytree(Path(__file__).parent / "faulty", folder / "faulty")
    arguments = ("--registry", str(folder / "faulty" / "registry.yaml"))
    with stack(folder, *arguments, scrape_seconds=15, export_millis=15_000) as on:
        for name, width in (("good", 16), ("broken", 1), ("slow", 2)):
            on.define(component(name, width))
        image_inputs(on, small=pictures.photo(64, 64))
        yield on


@contextmanager
def asking(on: Stack, shares: Mapping[str, int], *, threads: int = 2, pause: float = 0.2) -> Iterator[None]:
    """Requests for pipelines in these shares, while the block runs."""
    done, image = threading.Event(), pictures.photo(64, 64)
    names = [name for name, share in shares.items() for _ in range(share)]

    def ask(first: int) -> None:
        turn = first
        while not done.wait(pause):
            with suppress(httpx.HTTPError):
                on.process(names[turn % len(names)], image)
            turn += 1

    with ThreadPoolExecutor(threads) as pool:
        asked = [pool.submit(ask, number) for number in range(threads)]
        try:
            yield
        finally:
            done.set()
            for each in asked:
                each.result()


def well(on: Stack) -> None:
    """A while of good requests, of which no alert tells."""
    with asking(on, {"good": 1}, pause=1.0):
        eventually(lambda: on.number("sum(imageflow_pipeline_execution_duration_count)") > 0, within=90)
        time.sleep(QUIET_SECONDS)
    assert on.firing() == set()


def failing(folder: Path) -> Faults:
    """A third fails by a component's mistake, and the trace store is dead; at the end the collector is."""
    mistake = "a component fails every third call by a mistake of its own, seven a second"
    faults = Faults(
        {
            "PipelineExecutionFailureRate": mistake,
            "HighErrorLogRate": mistake,
            "SuccessBudgetBurnsFast": mistake,
            "SuccessBudgetBurnsSlowly": mistake,
            "TraceMissingSpans": "the trace store is killed",
        }
    )
    with system(folder) as on:
        well(on)
        faults.since = time.monotonic()
        on.zipkin.kill()
        with asking(on, {"good": 2, "broken": 1}, threads=4, pause=0.15):
            faults.watch(on)
        gone = Faults({"CollectorDown": "the collector is killed"}, since=time.monotonic())
        on.collector.kill()
        gone.watch(on)
    return Faults({**faults.what, **gone.what}, fired={**faults.fired, **gone.fired})


def slow(folder: Path) -> Faults:
    """Everything takes 1.5 s, and the orchestrator gets 1 ms of 26."""
    long, starved = "every execution takes 1.5 s", "the orchestrator is stopped for 25 ms of 26"
    faults = Faults(
        {
            "PipelineExecutionLatencyHigh": long,
            "LatencyBudgetBurnsFast": long,
            "OverheadBudgetBurnsFast": starved,
            "ExecutionsWait": f"{long}, and {CALLERS} callers want one",
        }
    )
    with system(folder) as on:
        well(on)
        on.define(after_many_steps(component("long", 2)))
        faults.since = time.monotonic()
        with starving(on.product.pids()["orchestrator"]), asking(on, {"long": 1}, threads=CALLERS, pause=0.05):
            faults.watch(on)
    return faults


def after_many_steps(definition: dict[str, Any]) -> dict[str, Any]:
    """The same behind a dozen steps that take next to no time: between each and the next it is the orchestrator's turn,
    which is to be missed now and then."""
    steps: list[dict[str, Any]] = [
        {"stepId": f"quick-{number}", "componentName": "resize", "parameters": {"width": 32, "height": 32}}
        for number in range(12)
    ]
    chain = [*steps, *definition["steps"]]
    for before, step in itertools.pairwise(chain):
        step["dependencies"] = [before["stepId"]]
    return {**definition, "steps": chain}


@contextmanager
def starving(pid: int) -> Iterator[None]:
    """By a process of its own: a thread of this one would wait for its turn, and the orchestrator run meanwhile."""
    with subprocess.Popen([sys.executable, "-c", _STOP_AND_GO, str(pid)]) as stopper:
        try:
            yield
        finally:
            stopper.kill()
            stopper.wait()
            os.kill(pid, signal.SIGCONT)


_STOP_AND_GO = """
import os, signal, sys, time
while True:
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    time.sleep(0.025)
    os.kill(int(sys.argv[1]), signal.SIGCONT)
    time.sleep(0.001)
"""


def stuck(folder: Path) -> Faults:
    """A component stands still in the midst of a hundred accepted executions."""
    still = "a component is stopped in the midst of a hundred accepted executions"
    faults = Faults({"StepExecutionStuck": still})
    with system(folder) as on:
        well(on)
        accept(on, component("patient", 2, retryPolicy={"maxRetries": 100, "backoffFactor": 1.0}))
        eventually(lambda: on.http.get("/v1/executions?status=RUNNING&pageSize=200").json()["executions"])
        faults.since = time.monotonic()
        os.kill(on.product.pids()["faulty"], signal.SIGSTOP)
        faults.watch(on)
        os.kill(on.product.pids()["faulty"], signal.SIGCONT)
    return faults


def accept(on: Stack, definition: dict[str, Any], count: int = 100) -> None:
    for _ in range(count):
        asked = {"pipeline": {**definition, "timeout": "3600s"}, "inputPath": "uploads/small.jpg"}
        answer = on.http.post("/v1/executions", json=asked)
        assert answer.status_code == 200, answer.text


def test_a_real_fault_fires_each_alert(tmp_path: Path, otelcol_program: str) -> None:
    made: list[Callable[[Path], Faults]] = [failing, slow, stuck]
    with ThreadPoolExecutor(len(made)) as pool:
        running = [pool.submit(each, tmp_path / each.__name__) for each in made]
        found = [each.result() for each in running]
    rows = sorted(
        (name, each.what[name], ALERTS[name], f"{seconds:.0f}")
        for each in found
        for name, seconds in each.fired.items()
    )
    assert {name for name, *_ in rows} == ALERTS.keys()
    for row in rows:
        print(*row, sep=" | ")
    write_report(
        "alerts",
        "From a fault to its alert",
        "A real fault for each alert in a system that went well before, until the real Prometheus says that it fires. "
        "Services export and Prometheus asks every 15 s; rules are evaluated every 15 s.",
        table(("alert", "fault", "for", "seconds until it fires"), rows),
    )
