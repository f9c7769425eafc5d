"""The dashboards are those that the code describes, and ask for what exists (R64)."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import httpx
import pytest

from backends.prometheus import Prometheus
from tests.e2e.product import TREE

from .dashboards import FOLDER, Query, queries

REQUIRED = [
    "Pipeline Execution Rate",
    "Pipeline Success Rate",
    "Execution Duration Distribution",
    "Step Execution Timeline",
    "Resource Utilization",
    "Error Logs",
]
INSTRUMENTS = {
    name.replace(".", "_")
    for folder in ("libs", "apps")
    for path in (TREE / folder).rglob("imageflow_*/*.py")
    for name in re.findall(r'"(imageflow\.[a-z_.]+)"', path.read_text())
}


def test_the_dashboards_are_up_to_date() -> None:
    command = [sys.executable, str(TREE / "tools" / "dashboards.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_overview_has_the_panels_that_are_required() -> None:
    board = json.loads((FOLDER / "imageflow-overview.json").read_text())
    assert board["title"] == "ImageFlow Canvas - Pipeline Overview"
    assert set(REQUIRED) <= {panel["title"] for panel in board["panels"]}


@pytest.mark.parametrize("name", ["imageflow-overview", "imageflow-platform"])
def test_panels_lie_side_by_side_and_do_not_overlap(name: str) -> None:
    panels = json.loads((FOLDER / f"{name}.json").read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("query", [each for each in queries() if each.source == "prometheus"], ids=str)
def test_prometheus_understands_every_query(history: Prometheus, query: Query) -> None:
    answer = httpx.get(f"{history.url}/api/v1/query", params={"query": query.text})
    assert answer.status_code == 200, f"{query}: {answer.text}"


@pytest.mark.parametrize("file", ["alerts.yaml", "recording.yaml", *(f"{name.stem}.json" for name in FOLDER.glob("*"))])
def test_every_metric_that_is_asked_for_is_one_that_is_made(file: str) -> None:
    (path,) = (TREE / "observability").rglob(file) if "alerts" not in file else [FOLDER.parent / "prometheus" / file]
    asked = set(re.findall(r"\bimageflow_[a-z_]+", path.read_text()))
    assert asked
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked} <= INSTRUMENTS
