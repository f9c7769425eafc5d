"""A pipeline's steps as a picture. matplotlib is needed here alone, and is no dependency of the command."""

from __future__ import annotations

from pathlib import Path

from imageflow_cli.exits import UsageFault

from .analysis import PARTS, Analysis


def draw(found: Analysis, file: Path) -> None:
    """A bar for each step, slowest at the top, in the parts that its time has. Raises UsageFault."""
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise UsageFault("--plot needs matplotlib: pip install matplotlib") from exc
    figure = Figure(figsize=(8, 1.5 + 0.5 * max(1, len(found.steps))), layout="constrained")
    axes = figure.subplots()
    names = [step.step for step in found.steps]
    begun = [0.0] * len(names)
    for part in PARTS:
        widths = [step.mean_ms * step.parts.get(part, 0.0) for step in found.steps]
        axes.barh(names, widths, left=begun, label=part)
        begun = [left + width for left, width in zip(begun, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    axes.set_title(f"{found.pipeline}, the last {found.hours:g} h, {found.traces} traces")
    axes.legend(loc="lower right", fontsize="small")
    try:
        figure.savefig(file)
    except (OSError, ValueError) as exc:
        raise UsageFault(f"{file} cannot be drawn: {exc}") from exc
