"""`imageflow analyze` (R66), over a real Prometheus with known hours and a real Zipkin with known spans."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from backends.prometheus import Prometheus
from backends.zipkin import Zipkin
from imageflow_cli.observe.zipkin import ZipkinStore
from tests.e2e.product import eventually, imageflow

from .history import PIPELINE
from .sent import send_to_zipkin


@pytest.fixture(scope="module")
def stores(history: Prometheus, zipkin: Zipkin) -> list[str]:
    sent = send_to_zipkin(zipkin.url, execution_id="ex-analyzed", pipeline_id=PIPELINE)
    eventually(lambda: len(asyncio.run(ZipkinStore(zipkin.url).trace(sent.trace_id))) == 4)
    return ["--prometheus", history.url, "--zipkin", zipkin.url]


def test_the_figures_are_those_that_were_measured(stores: list[str]) -> None:
    done = imageflow("analyze", PIPELINE, "--hours", "1", "--json", *stores)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    now, before = found["now"], found["before"]
    assert now["executions"] == pytest.approx(6300, rel=0.04)
    assert now["success_ratio"] == pytest.approx(100 / 105)
    assert now["mean_ms"] == pytest.approx(60)
    assert now["p50_ms"] == pytest.approx(50)
    assert now["p95_ms"] == pytest.approx(175)  # half way between the bounds that hold 90 and 100
    assert before["executions"] == pytest.approx(6300, rel=0.04)
    assert found["utilization"] == {"filter cpu": pytest.approx(0.9)}


def test_steps_are_in_order_with_the_shares_of_their_time(stores: list[str]) -> None:
    done = imageflow("analyze", PIPELINE, "--hours", "1", "--json", *stores)
    steps = {step["step"]: step for step in json.loads(done.stdout)["steps"]}
    assert steps.keys() == {"shrink", "sharpen"}
    assert (steps["shrink"]["attempts"], steps["shrink"]["retries"]) == (2, 1)
    assert steps["shrink"]["parts"] == pytest.approx(
        {"queue": 0.1, "transport": 0.1, "decode": 0.0, "compute": 0.7, "encode": 0.1}
    )


def test_each_bottleneck_has_a_suggestion(stores: list[str]) -> None:
    done = imageflow("analyze", PIPELINE, "--hours", "1", *stores)
    assert done.returncode == 0, done.stderr
    assert "70% is compute" in done.stdout
    assert "shrink: 1 of 2 attempts are retries" in done.stdout
    assert "filter cpu is 90% used" in done.stdout


def test_a_picture_is_drawn(stores: list[str], tmp_path: Path) -> None:
    done = imageflow("analyze", PIPELINE, "--hours", "1", "--plot", str(tmp_path / "steps.png"), *stores)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_a_pipeline_that_nobody_ran_has_no_figures(stores: list[str]) -> None:
    done = imageflow("analyze", "nobody", "--hours", "1", "--json", *stores)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["now"]["executions"], found["now"]["p95_ms"], found["steps"]) == (0, None, [])


def test_a_prometheus_that_is_not_there_is_said_plainly() -> None:
    done = imageflow("analyze", "p", "--prometheus", "http://127.0.0.1:1")
    assert done.returncode != 0
    assert "Prometheus at http://127.0.0.1:1 does not answer" in done.stderr
    assert "Traceback" not in done.stderr
