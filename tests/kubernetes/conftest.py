"""Manifests as they are rendered, and a real API server to apply them to."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from backends import kustomize
from backends.kubernetes import Kubernetes
from backends.running import running
from backends.server import CannotStart

from .cluster import Cluster


@pytest.fixture(scope="session")
def rendering() -> None:
    """What renders; the test is skipped where it cannot be had."""
    try:
        kustomize.install()
    except CannotStart as exc:
        pytest.skip(f"needs kustomize: {exc}")


@pytest.fixture(scope="session")
def cluster(rendering: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.environ.get("IMAGEFLOW_PROVE") != "1":
        pytest.skip("the API server, a quarter of an hour to build: make prove")
    for server in running(Kubernetes(tmp_path_factory.mktemp("kubernetes"))):
        yield Cluster(server)
