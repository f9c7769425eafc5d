"""`imageflow observe up` runs what can be found, says how to have the rest, and ends in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from backends.prometheus import program
from backends.zipkin import Zipkin, jar
from tests.e2e.product import clean_environment, eventually


@contextmanager
def observing(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with (folder / "out.txt").open("w") as out, (folder / "err.txt").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "imageflow_cli", "observe", "up", "--json"],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=err,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def environment(promtool: str, zipkin: Zipkin, tmp_path: Path) -> dict[str, str]:
    """One in which Prometheus and Zipkin are to be found, and neither the collector nor Loki."""
    programs = [str(program("prometheus").parent), "/usr/bin", "/bin"]
    return {
        **clean_environment(),
        "PATH": os.pathsep.join(programs),
        "IMAGEFLOW_ZIPKIN_JAR": str(jar()),
        "IMAGEFLOW_BACKENDS_CACHE": str(tmp_path / "none"),
    }


def test_what_can_be_found_runs_until_it_is_asked_to_end(environment: dict[str, str], tmp_path: Path) -> None:
    with observing(tmp_path, environment) as process:
        eventually(lambda: (tmp_path / "out.txt").read_text() or process.poll() is not None, within=60)
        told = json.loads((tmp_path / "out.txt").read_text())
        assert told["urls"].keys() == {"prometheus", "zipkin"}
        assert httpx.get(f"{told['urls']['prometheus']}/-/ready").status_code == 200
        assert httpx.get(f"{told['urls']['zipkin']}/health").status_code == 200
        assert told["exports"]["OTEL_EXPORTER_ZIPKIN_ENDPOINT"].startswith(told["urls"]["zipkin"])

        second = _observe("up", tmp_path, environment)
        assert second.returncode == 5, second.stderr
        assert _observe("down", tmp_path, environment).stdout == "asked to end\n"
        assert process.wait(60) == 0
        assert _observe("down", tmp_path, environment).stdout == "nothing runs\n"
    with pytest.raises(httpx.ConnectError):
        httpx.get(told["urls"]["zipkin"])


def test_what_cannot_be_found_is_named_with_how_it_is_had(tmp_path: Path) -> None:
    environment = {**clean_environment(), "PATH": "/nowhere", "IMAGEFLOW_BACKENDS_CACHE": str(tmp_path)}
    done = _observe("up", tmp_path, environment)
    assert done.returncode == 1
    for name in ("OpenTelemetry collector", "Prometheus", "Zipkin", "Loki"):
        assert f"not found: {name}" in done.stderr.replace("the Open", "Open")


def _observe(action: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imageflow_cli", "observe", action]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False)
