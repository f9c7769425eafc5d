"""Where the models are when nobody says."""

from __future__ import annotations

import os
from pathlib import Path


def find_models(given: Path | None) -> Path:
    """The folder given; else IMAGEFLOW_MODELS_DIRECTORY, `./models`, or the tree's own; `./models` if none is there."""
    if given is not None:
        return given
    if named := os.environ.get("IMAGEFLOW_MODELS_DIRECTORY"):
        return Path(named)
    candidates = (Path("models"), Path(__file__).resolve().parents[3] / "models")
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])
