"""Several collectors behind one: whole traces go to one of them, and what is failed is kept whichever that is (R63)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.otelcol import MANIFEST, OtelCollector
from backends.running import running
from imageflow_cli.observe.servers import Run
from tests.e2e.product import eventually

TRACES = 60
_SEND = """
import sys
from opentelemetry import trace
from imageflow_common.telemetry import configure_telemetry
stop = configure_telemetry(service="orchestrator", version="1")
tracer = trace.get_tracer("imageflow")
for number in range(int(sys.argv[1])):
    with tracer.start_as_current_span("pipeline.execute", attributes={"execution.id": str(number)}) as root:
        for step in range(3):
            with tracer.start_as_current_span("step.execute"):
                pass
        root.set_status(trace.StatusCode.ERROR)
stop()
"""


class Balancer(OtelCollector):
    """collector.yaml with balancer.yaml, as in a cluster but for how it finds the others."""

    name = "balancer"

    def __init__(self, directory: Path, others: list[OtelCollector]) -> None:
        super().__init__(directory)
        self._others = others

    def run(self) -> Run:
        run = super().run()
        text = (MANIFEST.parent / "balancer.yaml").read_text()
        found, _, rest = text.partition("      dns:\n")
        names = ", ".join(f"127.0.0.1:{other.places.otlp}" for other in self._others)
        rest = rest.partition("        interval: 5s\n")[2].replace("k8s_attributes, ", "")
        (self.directory / "balancer.yaml").write_text(f"{found}      static: {{hostnames: [{names}]}}\n{rest}")
        program, *_ = run.command
        configured = [self.directory / name for name in ("collector.yaml", "balancer.yaml")]
        return Run((program, *(f"--config={file}" for file in configured)), run.environment)


@pytest.fixture
def collectors(otelcol_program: str, tmp_path: Path) -> Iterator[tuple[Balancer, list[OtelCollector]]]:
    for first in running(OtelCollector(tmp_path / "first" / "otelcol")):
        for second in running(OtelCollector(tmp_path / "second" / "otelcol")):
            for balancer in running(Balancer(tmp_path / "before" / "otelcol", [first, second])):
                yield balancer, [first, second]


def test_each_trace_goes_whole_to_one_of_two(collectors: tuple[Balancer, list[OtelCollector]]) -> None:
    balancer, others = collectors
    subprocess.run(
        [sys.executable, "-c", _SEND, str(TRACES)],
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": balancer.otlp_endpoint},
        timeout=60,
        check=True,
    )

    def spans() -> list[dict[str, int]]:
        return [count_spans(other) for other in others]

    eventually(lambda: sum(len(each) for each in spans()) == TRACES, within=60)
    first, second = spans()
    assert not first.keys() & second.keys()
    assert set(first.values()) | set(second.values()) == {4}
    assert min(len(first), len(second)) > TRACES / 10


def count_spans(collector: OtelCollector) -> dict[str, int]:
    """By trace, of those that it has let through."""
    found: dict[str, int] = {}
    text = collector.traces_file.read_text() if collector.traces_file.exists() else ""
    for line in text.splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    found[span["traceId"]] = found.get(span["traceId"], 0) + 1
    return found
