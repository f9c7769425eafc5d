"""The images, built once. That takes minutes, so they are for `make prove`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tools import images

from .containers import System, podman, system


@pytest.fixture(scope="session")
def stand_ins() -> None:
    """The images that ours start from. Skips but in `make prove`, and where none can be built."""
    if os.environ.get("IMAGEFLOW_PROVE") != "1":
        pytest.skip("the images: make prove")
    os.environ["IMAGEFLOW_ENGINE"] = "buildah"
    try:
        images.install_engine()
    except (SystemExit, subprocess.CalledProcessError) as exc:
        pytest.skip(f"needs podman: {exc}")
    images.make_stand_ins()


@pytest.fixture(scope="session")
def built(stand_ins: None) -> None:
    """Every image of this tree."""
    for name in (*images.SERVICES, images.GATEWAY):
        images.build(name)


@pytest.fixture(scope="module")
def running(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The system from its images. What it did not get rid of by itself is a failure."""
    with system(tmp_path_factory.mktemp("images")) as found:
        yield found
        for name in found.network.containers:
            said = podman("logs", name).stderr
            assert "Traceback" not in said, said[-4_000:]
