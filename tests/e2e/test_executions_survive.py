"""What was accepted is finished, though the product is ended, or its orchestrator killed, in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from . import pictures
from .conftest import run
from .product import Product, clean_environment, eventually

SETTINGS = {"IMAGEFLOW_SHUTDOWN_GRACE_SECONDS": "1"}
PIPELINE = {
    "pipelineId": "survivor",
    "timeout": "7200s",
    "steps": [
        {"stepId": "fit", "componentName": "resize", "parameters": {"width": 200}},
        {
            "stepId": "sharp",
            "componentName": "filter",
            "dependencies": ["fit"],
            "retryPolicy": {"initialDelay": "3600s", "maxDelay": "3600s"},
        },
    ],
}


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Product]:
    """A product of its own: it is ended in the middle."""
    folder = tmp_path / "first"
    folder.mkdir()
    product = Product(folder, environment=SETTINGS)
    try:
        product.wait_ready()
        yield product
    finally:
        product.kill()


def another_on_its_data(product: Product, folder: Path) -> Product:
    folder.mkdir()
    another = Product(folder, *product.arguments, "--data", str(product.data), environment=product.environment)
    another.data = product.data
    return another


def half_done(product: Product, execution_id: str) -> dict[str, Any]:
    """An execution whose first step is done and whose second waits an hour for its next attempt: its component was
    killed in the first."""
    before = product.pids()["filter"]
    with httpx.Client(base_url=product.url, timeout=30) as http:
        http.put("/v1/images/photo.jpg", content=pictures.photo())
        os.kill(before, signal.SIGSTOP)
        body = {"pipeline": PIPELINE, "inputPath": "photo.jpg", "executionId": execution_id, "outputPath": "out.jpg"}
        assert http.post("/v1/executions", json=body).status_code == 200

        def called() -> dict[str, Any] | None:
            execution: dict[str, Any] = http.get(f"/v1/executions/{execution_id}").json()
            states = {step: each["status"] for step, each in execution["results"].items()}
            kept = execution["results"].get("fit", {}).get("outputPath")
            return execution if kept and states == {"fit": "COMPLETED", "sharp": "RUNNING"} else None

        execution = eventually(called)
        os.kill(before, signal.SIGKILL)
        eventually(lambda: product.pids()["filter"] not in (0, before))
        eventually(lambda: http.get("/readyz").status_code == 200)
        assert http.get(f"/v1/executions/{execution_id}").json()["status"] == "RUNNING"
    return execution


def assert_completes(product: Product, before: dict[str, Any]) -> None:
    """Without a second run of the step that was done."""
    with httpx.Client(base_url=product.url, timeout=30) as http:

        def ended() -> dict[str, Any] | None:
            response = http.get(f"/v1/executions/{before['executionId']}")
            execution: dict[str, Any] = response.json()
            return execution if response.is_success and execution["status"] not in ("PENDING", "RUNNING") else None

        execution = eventually(ended, within=60)
        assert execution["status"] == "COMPLETED", execution
        assert execution["results"]["fit"]["processingTimeMs"] == before["results"]["fit"]["processingTimeMs"]
        assert execution["results"]["fit"]["outputPath"] == before["results"]["fit"]["outputPath"]
        assert pictures.decoded(http.get("/v1/images/out.jpg").content).width == 200


def test_what_is_ended_in_the_middle_is_finished_by_the_next_start(first: Product, tmp_path: Path) -> None:
    execution = half_done(first, "ended")
    assert first.end() == 0, first.err
    for second in run(another_on_its_data(first, tmp_path / "second")):
        assert_completes(second, execution)


def test_what_an_orchestrator_dies_in_is_finished_by_the_next_and_watchers_see_it(first: Product) -> None:
    execution = half_done(first, "killed")
    watcher = subprocess.Popen(
        [sys.executable, "-m", "imageflow_cli", "executions", "watch", "killed", "--url", first.url, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert watcher.stdout is not None
    told = [json.loads(watcher.stdout.readline())]
    os.kill(first.pids()["orchestrator"], signal.SIGKILL)
    rest, _ = watcher.communicate(timeout=60)
    told += [json.loads(line) for line in rest.splitlines()]
    assert watcher.returncode == 0, told
    assert (told[0]["status"], told[0]["terminal"]) == ("RUNNING", False)
    assert (told[-1]["status"], told[-1]["terminal"]) == ("COMPLETED", True)
    numbers = [event["number"] for event in told if event["number"]]
    assert numbers == sorted(numbers)
    assert_completes(first, execution)
    assert first.end() == 0
    assert "orchestrator was ended by SIGKILL" in first.err
    assert first.left_behind() == []
