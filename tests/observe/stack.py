"""The product with all that keeps what it tells: collector, Prometheus, Zipkin, Loki, as they are meant to be run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.loki import Loki
from backends.otelcol import OtelCollector
from backends.prometheus import Prometheus
from backends.server import CannotStart, Server
from backends.zipkin import Zipkin
from imageflow_cli.observe.traces import Trace
from imageflow_cli.observe.zipkin import ZipkinStore
from tests.e2e.product import Product

NEEDED = (OtelCollector, Prometheus, Zipkin, Loki)


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs. Questions to it are asked in this process, by plain HTTP where no command of ours asks."""

    product: Product
    http: httpx.Client
    collector: OtelCollector
    prometheus: Prometheus
    zipkin: Zipkin
    loki: Loki

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.prometheus.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def number(self, expression: str) -> float:
        """The one value; 0 where there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else 0.0

    def firing(self) -> set[str]:
        alerts = httpx.get(f"{self.prometheus.url}/api/v1/alerts").json()["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    async def traces_of(self, execution_id: str) -> list[Trace]:
        since = datetime.now(UTC) - timedelta(hours=1)
        return list(await ZipkinStore(self.zipkin.url).find("execution.id", execution_id, since=since, limit=10))

    def logged(self, selector: str) -> list[dict[str, str]]:
        """The labels, and the structured metadata, of the lines that LogQL selects."""
        answer = httpx.get(f"{self.loki.url}/loki/api/v1/query_range", params={"query": selector, "limit": "5000"})
        assert answer.status_code == 200, answer.text
        streams = answer.json()["data"]["result"]
        return [stream["stream"] for stream in streams for _ in stream["values"]]

    def define(self, definition: Mapping[str, Any]) -> None:
        answer = self.http.post("/v1/pipelines", json=definition)
        assert answer.status_code == 200, answer.text

    def process(self, pipeline_id: str, image: bytes, **headers: str) -> httpx.Response:
        return self.http.post(
            f"/v1/pipelines/{pipeline_id}:process", content=image, headers={"content-type": "image/jpeg", **headers}
        )


@contextmanager
def stack(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    collector: Mapping[str, str] | None = None,
    scrape_seconds: int = 1,
    export_millis: int = 1_000,
    otlp_endpoint: Callable[[int], AbstractContextManager[str]] | None = None,
) -> Iterator[Stack]:
    """`arguments` and `environment` are for the product, `collector` has settings of the collector, `otlp_endpoint` is
    what stands between the two, given the collector's port. Skips the test where one of the servers cannot be had."""
    beside = folder / "beside"
    beside.mkdir()
    with ExitStack() as ending:
        servers = (
            OtelCollector(beside / "otelcol", collector),
            Prometheus(beside / "prometheus", scrape_seconds),
            Zipkin(beside / "zipkin"),
            Loki(beside / "loki"),
        )
        for server in servers:
            _start(server)
            ending.callback(server.kill)
        otelcol, prometheus, zipkin, loki = servers
        between = ending.enter_context(otlp_endpoint(otelcol.places.otlp)) if otlp_endpoint else otelcol.otlp_endpoint
        product = Product(
            folder,
            *("--log-format", "json", *arguments),
            environment={
                **otelcol.settings(),
                "OTEL_EXPORTER_OTLP_ENDPOINT": between,
                "OTEL_METRIC_EXPORT_INTERVAL": str(export_millis),
                "OTEL_BSP_SCHEDULE_DELAY": "200",
                **(environment or {}),
            },
        )
        ending.callback(product.kill)
        ending.callback(product.end)
        (otelcol.logs / "product.jsonl").symlink_to(folder / "err.txt")
        product.wait_ready()
        http = ending.enter_context(httpx.Client(base_url=product.url, timeout=60))
        yield Stack(product, http, otelcol, prometheus, zipkin, loki)


def _start(server: Server) -> None:
    try:
        server.start()
    except CannotStart as exc:
        pytest.skip(f"needs {server.name}: {exc}")


def execution_of(response: httpx.Response) -> str:
    """The id of the execution that answered, well or not."""
    if response.status_code == 200:
        return response.headers.get("imageflow-execution-id") or str(response.json()["executionId"])
    details = response.json()["details"]
    return next(str(each["metadata"]["executionId"]) for each in details if "executionId" in each.get("metadata", {}))


def image_inputs(stack: Stack, **images: bytes) -> None:
    """Uploads them, as `uploads/NAME.jpg`."""
    for name, image in images.items():
        answer = stack.http.put(f"/v1/images/uploads/{name}.jpg", content=image, headers={"content-type": "image/jpeg"})
        assert answer.status_code == 200, answer.text


def read_json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found
