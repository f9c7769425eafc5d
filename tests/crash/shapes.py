"""The pipelines that are interrupted, and what each must come to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from imageflow_cli.local import run_local

from . import pictures
from .stage import TREE

INPUT = "uploads/coins.png"


@dataclass(frozen=True, slots=True)
class Shape:
    """A pipeline; what it ends as; whether its output goes to a path of the caller's."""

    name: str
    steps: tuple[dict[str, Any], ...]
    status: str = "COMPLETED"
    output_step: str = ""
    to_path: bool = False

    def definition(self) -> dict[str, Any]:
        retry = {"maxRetries": 3, "initialDelay": "0.05s", "maxDelay": "0.2s"}
        steps = [{"retryPolicy": retry, **step} for step in self.steps]
        output = {"outputStep": self.output_step} if self.output_step else {}
        return {"pipelineId": self.name, "version": "1", "steps": steps, "timeout": "60s", **output}

    def request(self, execution_id: str) -> dict[str, Any]:
        """The body of a request to create it."""
        path = {"outputPath": f"outputs/{execution_id}!.png"} if self.to_path else {}
        return {"pipeline": self.definition(), "inputPath": INPUT, "executionId": execution_id, **path}


def _step(step_id: str, component: str, *after: str, **parameters: Any) -> dict[str, Any]:
    return {"stepId": step_id, "componentName": component, "dependencies": list(after), "parameters": parameters}


_SMALL = _step("small", "resize", width=160, height=120)

LINEAR = Shape(
    "linear",
    (
        _SMALL,
        _step("soft", "filter", "small", filterType="gaussian", filterIntensity=1.5),
        _step("half", "resize", "soft", width=80, height=60),
    ),
    to_path=True,
)
BRANCHES = Shape(
    "branches",
    (
        _SMALL,
        _step("edges", "filter", "small", filterType="edges"),
        _step("sharp", "filter", "small", filterType="unsharp", filterIntensity=1.0),
        {**_step("end", "resize", "sharp", "edges", width=90, height=60), "inputFrom": {"image": "edges"}},
    ),
)
LOOKER = Shape(
    "looker",
    (
        _step("large", "resize", width=400, height=300, enlarge=True),
        _step("look", "detect", "large", modelName="coins"),
        _step("sharp", "filter", "look", filterType="unsharp", filterIntensity=1.0),
    ),
    to_path=True,
)
RETRY = Shape(
    "retry",
    (
        _SMALL,
        _step("flaky", "filter", "small", filterType="median", filterIntensity=1.0),
        _step("end", "resize", "flaky", width=70, height=50),
    ),
)
PASSED_OVER = Shape(
    "passed-over",
    (
        _SMALL,
        {**_step("broken", "filter", "small", filterType="gaussian"), "onFailure": "SKIP"},
        _step("end", "resize", "broken", width=70, height=50),
    ),
    to_path=True,
)
FAILING = Shape(
    "failing",
    (
        _SMALL,
        _step("sharp", "filter", "small", filterType="unsharp", filterIntensity=1.0),
        _step("broken", "filter", "small", filterType="gaussian"),
        _step("end", "resize", "broken", width=70, height=50),
    ),
    status="FAILED",
    output_step="end",
)
QUICK = Shape(
    "quick",
    (
        _step("small", "resize", width=64, height=48),
        _step("soft", "filter", "small", filterType="gaussian", filterIntensity=1.0),
    ),
)
SHAPES = (LINEAR, BRANCHES, LOOKER, RETRY, PASSED_OVER, FAILING)
BY_NAME = {shape.name: shape for shape in SHAPES}


async def reference(shape: Shape) -> str:
    """The SHA-256 of the output, computed in this process by bare components; empty where there is none.

    No component here is told to refuse, so a step that is told to and passed over is left out."""
    if shape.status != "COMPLETED":
        return ""
    broken = {step["stepId"] for step in shape.steps if step["stepId"].startswith("broken")}
    definition = shape.definition()
    definition["steps"] = [
        {**step, "dependencies": ["small" if name in broken else name for name in step["dependencies"]]}
        for step in definition["steps"]
        if step["stepId"] not in broken
    ]
    done = await run_local(json.dumps(definition).encode(), pictures.coins(), models=TREE / "models")
    assert done.data, done.execution
    return hashlib.sha256(done.data).hexdigest()
