"""The runbook's commands do what it says, against the real product, trace store and Prometheus (R80, R67)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from backends.prometheus import Prometheus
from backends.zipkin import Zipkin
from tests.e2e import pictures
from tests.e2e.product import TREE, Product, clean_environment, eventually, imageflow

from .history import PIPELINE

RUNBOOK = (TREE / "docs" / "runbook.md").read_text()
BLOCKS: list[str] = re.findall(r"^```sh\n# runnable\n(.*?)^```$", RUNBOOK, re.M | re.S)
DEFINITION = {
    "pipelineId": "seen",
    "steps": [
        {"stepId": "small", "componentName": "resize", "parameters": {"width": 64}},
        {
            "stepId": "soft",
            "componentName": "filter",
            "dependencies": ["small"],
            "parameters": {"filterType": "gaussian"},
        },
    ],
}


@dataclass(frozen=True, slots=True)
class Site:
    """A product that sends its spans to Zipkin, and an execution that it has done."""

    url: str
    data: Path
    execution: dict[str, object]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, zipkin: Zipkin) -> Iterator[Site]:
    product = Product(tmp_path_factory.mktemp("site"), environment=dict(zipkin.settings()))
    try:
        product.wait_ready()
        with httpx.Client(base_url=product.url) as http:
            headers = {"content-type": "image/jpeg"}
            stored = http.put("/v1/images/uploads/a.jpg", content=pictures.photo(320, 200), headers=headers)
            assert stored.status_code == 200, stored.text
            asked = {"pipeline": DEFINITION, "inputPath": "uploads/a.jpg"}
            answer = http.post("/v1/pipelines:execute", json=asked)
            assert answer.status_code == 200, answer.text
        yield Site(product.url, product.data, answer.json())
    finally:
        product.end()
        product.kill()


def test_an_execution_says_its_trace_and_the_trace_shows_every_step(site: Site, zipkin: Zipkin) -> None:
    execution, trace_id = str(site.execution["executionId"]), str(site.execution["traceId"])
    assert re.fullmatch(r"[0-9a-f]{32}", trace_id)

    def shown() -> list[str]:
        done = imageflow("trace", execution, "--url", site.url, "--zipkin", zipkin.url, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return [span["name"] for span in found.get("spans", [])] if found["traceId"] == trace_id else []

    names = ["pipeline.execute", "step.execute", "image_resize", "step.execute", "image_filter"]
    assert eventually(lambda: (found := [each for each in shown() if each in names]) == names and found)


def test_a_traces_id_leads_back_to_the_execution(site: Site, zipkin: Zipkin) -> None:
    def shown() -> str:
        done = imageflow("trace", str(site.execution["traceId"]), "--zipkin", zipkin.url)
        return done.stdout if done.returncode == 0 else ""

    assert str(site.execution["executionId"]) in eventually(shown)


def test_without_a_trace_store_the_record_has_the_times(site: Site) -> None:
    done = imageflow("trace", str(site.execution["executionId"]), "--url", site.url)
    assert done.returncode == 0, done.stderr
    assert "from the record" in done.stderr
    assert {"small", "soft"} <= set(done.stdout.split())


@pytest.mark.parametrize("unknown", ["nobody-knows-me", "0" * 31 + "1"])
def test_what_nobody_knows_is_said_to_be_unknown(site: Site, zipkin: Zipkin, unknown: str) -> None:
    done = imageflow("trace", unknown, "--url", site.url, "--zipkin", zipkin.url)
    assert done.returncode == 1
    assert "nothing of" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_runbook_has_commands() -> None:
    assert len(BLOCKS) >= 7


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip()[:50])
def test_every_runnable_block_of_the_runbook_runs(site: Site, zipkin: Zipkin, history: Prometheus, block: str) -> None:
    environment = {
        **clean_environment(),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "IMAGEFLOW_URL": site.url,
        "IMAGEFLOW_PROMETHEUS_URL": history.url,
        "IMAGEFLOW_ZIPKIN_URL": zipkin.url,
        "DATA": str(site.data),
        "PIPELINE": PIPELINE,
        "EXECUTION": str(site.execution["executionId"]),
    }
    command = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
