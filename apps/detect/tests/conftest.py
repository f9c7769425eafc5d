from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.server import CannotStart
from backends.triton import Triton


@pytest.fixture(scope="session")
def served_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of toys, and of the demo's model, served by `triton`."""
    from imageflow_detect.toy_repository import fill

    folder = tmp_path_factory.mktemp("models")
    fill(folder)
    shutil.copytree(Path(__file__).parents[3] / "models" / "coins", folder / "coins")
    return folder


@pytest.fixture(scope="session")
def triton(served_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A real Triton over `served_models`."""
    server = Triton(tmp_path_factory.mktemp("triton"), served_models)
    try:
        server.start()
    except CannotStart as exc:
        pytest.skip(f"needs a Triton: {exc}")
    yield server
    server.stop()
