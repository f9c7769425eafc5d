"""The pipelines that are measured, and the ways to run them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

Step = Literal["resize", "detect", "filter"]
Variant = Literal["functions", "shared", "inline"]

VARIANTS: Final[tuple[Variant, ...]] = ("functions", "shared", "inline")
SERVED: Final[tuple[Variant, ...]] = ("shared", "inline")
LABELS: Final[dict[Variant, str]] = {
    "functions": "a: functions in one process",
    "shared": "b: served, shared memory",
    "inline": "c: served, all inline",
}
MODEL: Final = "coins"
MODELS: Final = Path(__file__).resolve().parents[1] / "models"


@dataclass(frozen=True, slots=True)
class Workload:
    """A chain of steps with their default parameters; detection looks for coins."""

    name: str
    steps: tuple[Step, ...]

    @property
    def title(self) -> str:
        return f"{self.name} {' → '.join(self.steps)}"

    @property
    def pipeline_id(self) -> str:
        return f"benchmark-{self.name.lower()}"

    @property
    def finds(self) -> bool:
        """Whether it detects anything."""
        return "detect" in self.steps

    def definition(self) -> dict[str, Any]:
        """The pipeline as it is posted to /v1/pipelines."""
        steps: list[dict[str, Any]] = []
        for before, step in zip((None, *self.steps), self.steps, strict=False):
            steps.append(
                {
                    "stepId": step,
                    "componentName": step,
                    "dependencies": [before] if before else [],
                    "parameters": {"modelName": MODEL} if step == "detect" else {},
                }
            )
        return {"pipelineId": self.pipeline_id, "version": "1.0.0", "steps": steps}


WORKLOADS: Final = (
    Workload("P1", ("resize",)),
    Workload("P2", ("resize", "filter")),
    Workload("P3", ("resize", "detect", "filter")),
)
