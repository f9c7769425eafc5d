"""The benchmark, from end to end, with a few requests; how long they take is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backends.minio import MinIO
from backends.server import CannotStart
from backends.triton import Triton

TREE = Path(__file__).resolve().parents[2]


def test_a_quick_run_reports_every_pipeline_every_way_without_errors(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.pipelines", "--quick", "--output", str(tmp_path)]
    ended = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    results = json.loads((tmp_path / "pipelines.json").read_text())
    found = {(each["workload"], each["variant"]): each for each in results["measured"]}
    assert set(found) == {(p, v) for p in ("P1", "P2", "P3") for v in ("functions", "shared", "inline")}
    assert results["errors"] == 0
    assert found["P3", "shared"]["detections"] > 0
    assert all(set(each["loads"]) >= {"1", "8", "32"} for key, each in found.items() if key[1] != "functions")
    assert results["environment"]["telemetry"] is False
    assert "| P3 resize → detect → filter |" in (tmp_path / "pipelines.md").read_text()
    assert (tmp_path / "pipelines.png").read_bytes().startswith(b"\x89PNG")


def test_a_quick_run_of_the_engine_measures_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.engine", "--quick", "--output", str(tmp_path)]
    ended = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads((tmp_path / "engine.json").read_text())
    assert set(figures["scheduling_us"]) == {"10", "100", "1000", "5000"}
    assert set(figures["validation_ms"]) == {"linear", "wide"}
    assert figures["resumed_executions"] == 10
    assert figures["step_ms"]["p50"] > 0
    assert "| 10 interrupted executions finished in |" in (tmp_path / "engine.md").read_text()


def test_a_quick_run_of_detect_reports_what_it_costs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.detect", "--rounds", "3", "--output", str(tmp_path)]
    ended = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    results = json.loads((tmp_path / "detect.json").read_text())
    assert set(results["models"]) == {"coins", "wide"}
    assert set(results["models"]["coins"]) == {"ours", "bare", "inference alone"}
    assert list(results["memory_bytes"]) == ["no model", "1 loaded, the last coins", "2 loaded, the last wide"]
    assert set(results["post_processing"]) == {"yolo_v8", "yolo_v5"}
    assert "| coins |" in (tmp_path / "detect.md").read_text()


def test_a_quick_run_of_triton_compares_every_way(tmp_path: Path) -> None:
    try:
        Triton(tmp_path / "server").install()
    except CannotStart as exc:
        pytest.skip(f"needs a Triton: {exc}")
    command = [sys.executable, "-m", "benchmarks.triton", "--quick", "--output", str(tmp_path)]
    ended = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = [line.split(" | ")[0] for line in (tmp_path / "triton.md").read_text().splitlines()]
    on_triton = [
        f"| {who} {how}" for how in ("inline", "shared memory") for who in ("bare tritonclient,", "ours on Triton,")
    ]
    assert [rows.count(way) for way in on_triton] == [2] * 4, "one at a time, and 16 in flight"
    assert {"| bare onnxruntime", "| ours in process", "| detect on ONNX Runtime", "| detect on Triton"} <= set(rows)
    assert {"| detect's process, with Triton", "| Triton"} <= set(rows)


def test_a_quick_run_of_the_store_reports_every_way(tmp_path: Path) -> None:
    MinIO(tmp_path / "minio").install()
    command = [sys.executable, "-m", "benchmarks.store", "--quick", "--output", str(tmp_path)]
    ended = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = [line for line in (tmp_path / "store.md").read_text().splitlines() if line.startswith(("| 1 kB", "| 6 MB"))]
    assert len(rows) == 16
