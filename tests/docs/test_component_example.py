"""The component of docs/writing-a-component.md, taken from the page and run as a reader would."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/writing-a-component.md"
FILES = {"sepia.proto", "sepia.py", "components.yaml"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's files, as they stand there."""
    found = dict(re.findall(r"\*\*`([\w.]+)`\*\*\n\n```\w+\n(.*?)^```", PAGE.read_text(), re.S | re.M))
    assert set(found) == FILES
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """`imageflow up --registry components.yaml` in that folder."""
    arguments = ["up", "--port", "0", "--registry", "components.yaml", "--models", str(ROOT / "models"), "--json"]
    command = [sys.executable, "-m", "imageflow_cli", *arguments]
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            text = process.stdout.readline()
            while process.poll() is None and not text.endswith("\n}\n"):
                text += process.stdout.readline()
            assert text.endswith("}\n"), (folder / "up.log").read_text()
            yield json.loads(text)["url"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def test_the_component_of_the_page_runs(url: str) -> None:
    picture = (ROOT / "docs/images/before.jpg").read_bytes()
    with httpx.Client(base_url=url, timeout=30) as client:
        component = client.get("/v1/components/tone").raise_for_status().json()
        assert component["name"] == "sepia"
        assert component["parametersSchema"]["properties"]["tone"]["enum"] == ["sepia", "cyanotype"]

        toned = client.post("/v1/components/sepia:process?set=strength=0.7", content=picture).raise_for_status()
        assert toned.headers["content-type"] == "image/jpeg"

        client.put("/v1/images/uploads/coins.jpg", content=picture).raise_for_status()
        step = {"stepId": "tone", "componentName": "sepia", "parameters": {"strength": 0.7}}
        request = {"pipeline": {"pipelineId": "toned", "steps": [step]}, "inputPath": "uploads/coins.jpg"}
        execution = client.post("/v1/pipelines:execute", json=request).raise_for_status().json()
        assert execution["status"] == "COMPLETED"
        assert 0 < execution["results"]["tone"]["metadata"]["meanBrightness"] < 255

        request["pipeline"] = {"pipelineId": "toned", "steps": [{**step, "parameters": {"tone": "sepa"}}]}
        assert client.post("/v1/pipelines:execute", json=request).status_code == 400
