"""The product through the real collector into the real Prometheus: names (R61), counts, sampling (R63)."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from backends.otelcol import OtelCollector
from backends.prometheus import Prometheus
from backends.running import running
from tests.e2e import pictures
from tests.e2e.product import Product, eventually

GOOD = 30
BAD = 5
NAMES = {
    "imageflow_pipeline_execution_duration_bucket",
    "imageflow_pipeline_execution_duration_count",
    "imageflow_pipeline_execution_duration_sum",
    "imageflow_step_executions_total",
    "imageflow_resource_utilization",
    "imageflow_processing_duration_bucket",
    "imageflow_processing_duration_count",
    "imageflow_processing_duration_sum",
    "imageflow_processing_total",
}


@dataclass(frozen=True, slots=True)
class Collected:
    """What was run, and where it can be seen."""

    collector: OtelCollector
    prometheus: Prometheus
    failed: set[str]

    def query(self, expression: str) -> list[dict[str, object]]:
        answer = httpx.get(f"{self.prometheus.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, object]] = answer["data"]["result"]
        return found

    def traces(self) -> list[dict[str, object]]:
        """The spans that the collector has let through."""
        file = self.collector.traces_file
        lines = file.read_text().splitlines() if file.exists() else []
        return [
            span
            for line in lines
            for resource in json.loads(line)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


@pytest.fixture(scope="module")
def collected(otelcol_program: str, promtool: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collected]:
    folder = tmp_path_factory.mktemp("collected")
    for collector in running(OtelCollector(folder / "otelcol")):
        for prometheus in running(Prometheus(folder / "prometheus")):
            environment = {**collector.settings(), "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
            product = Product(tmp_path_factory.mktemp("product"), "--log-format", "json", environment=environment)
            try:
                product.wait_ready()
                with httpx.Client(base_url=product.url, timeout=30) as http:
                    failed = mixed_run(http, product)
                    yield Collected(collector, prometheus, failed)
            finally:
                product.end()
                product.kill()


def mixed_run(http: httpx.Client, product: Product) -> set[str]:
    """Good ones, ones that fail, and one that is tried again. Answers the executions that failed."""
    define(http, "good", {"retryPolicy": {"maxRetries": 8, "backoffFactor": 1.5}})
    for _ in range(GOOD):
        assert process(http, "good", pictures.photo(64, 64)).status_code == 200
    failed = set()
    for _ in range(BAD):
        answer = process(http, "good", pictures.photo(64, 64)[:400])
        assert answer.status_code == 400, answer.text
        failed.add(next(each["metadata"]["executionId"] for each in answer.json()["details"] if "metadata" in each))
    os.kill(product.pids()["resize"], signal.SIGKILL)
    assert process(http, "good", pictures.photo(64, 64)).status_code == 200
    return failed


def define(http: httpx.Client, name: str, more: dict[str, object]) -> None:
    step = {"stepId": "resize", "componentName": "resize", "parameters": {"width": 32}, **more}
    answer = http.post("/v1/pipelines", json={"pipelineId": name, "version": "1.0.0", "steps": [step]})
    assert answer.status_code == 200, answer.text


def process(http: httpx.Client, name: str, image: bytes) -> httpx.Response:
    return http.post(f"/v1/pipelines/{name}:process", content=image, headers={"content-type": "image/jpeg"})


def test_prometheus_has_the_names_that_are_required(collected: Collected) -> None:
    def names() -> set[str]:
        return {str(each["metric"]["__name__"]) for each in collected.query('{__name__=~"imageflow_.+"}')}  # type: ignore[index]

    eventually(lambda: names() >= NAMES)


def test_the_counters_are_what_was_sent(collected: Collected) -> None:
    def counted() -> dict[str, float]:
        found = collected.query('sum by (status) (imageflow_pipeline_execution_duration_count{pipeline_id="good"})')
        return {each["metric"]["status"]: float(each["value"][1]) for each in found}  # type: ignore[index]

    eventually(lambda: counted() == {"success": GOOD + 1, "failed": BAD})


def test_every_failed_run_is_kept_by_the_sampling_and_not_every_good_one(collected: Collected) -> None:
    def kept() -> set[str]:
        return {
            attribute["value"]["stringValue"]
            for span in collected.traces()
            if span["name"] == "pipeline.execute"
            for attribute in span["attributes"]  # type: ignore[attr-defined]
            if attribute["key"] == "execution.id"
        }

    eventually(lambda: kept() >= collected.failed)
    assert len(kept()) < GOOD
