"""Where the models are when nobody says."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Final

_HERE: Final = Path("models")


def find_models(given: Path | None, *, holding: str = "") -> Path:
    """The folder given; else IMAGEFLOW_MODELS_DIRECTORY, `./models`, or the one that comes with detect; of the last
    two the first that is there, and holds the model asked for."""
    if given is not None or "IMAGEFLOW_MODELS_DIRECTORY" in os.environ:
        return find_own_models(given)
    return next((folder for folder in (_HERE, _demo_models()) if (folder / holding).is_dir()), _HERE)


def find_own_models(given: Path | None) -> Path:
    """The folder to add a model to: as `find_models`, but never the one that comes with detect."""
    return given or Path(os.environ.get("IMAGEFLOW_MODELS_DIRECTORY") or _HERE)


def _demo_models() -> Path:
    """In the tree links to the model in `models/`, in the wheel its files."""
    return Path(str(files("imageflow_detect"))) / "demo_models"
