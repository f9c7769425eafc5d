"""The real servers of observability. Those that take minutes to build are for `make prove`, as is what needs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import otelcol, prometheus
from backends.prometheus import Prometheus
from backends.running import running
from backends.server import CannotStart
from backends.zipkin import Zipkin

from .history import write_history

OBSERVABILITY = Path(__file__).resolve().parents[2] / "observability"
PROVE = bool(os.environ.get("IMAGEFLOW_PROVE"))


@pytest.fixture(scope="session")
def promtool() -> str:
    try:
        prometheus.install_prometheus()
    except CannotStart as exc:
        pytest.skip(f"needs promtool: {exc}")
    return str(prometheus.program("promtool"))


@pytest.fixture(scope="session")
def otelcol_program() -> str:
    """Built when `make prove` asks for it, or found where it was built before."""
    if not (PROVE or otelcol.program().exists()):
        pytest.skip("only with IMAGEFLOW_PROVE, which builds the collector")
    try:
        otelcol.install_collector()
    except CannotStart as exc:
        pytest.skip(f"needs otelcol: {exc}")
    return str(otelcol.program())


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the servers of this session stand side by side."""
    return tmp_path_factory.mktemp("observed")


@pytest.fixture(scope="session")
def zipkin(observed: Path) -> Iterator[Zipkin]:
    yield from running(Zipkin(observed / "zipkin"))


@pytest.fixture(scope="session")
def history(observed: Path, promtool: str) -> Iterator[Prometheus]:
    """A Prometheus that has what `history.py` says of the last hours."""
    server = Prometheus(observed / "prometheus")
    write_history(promtool, observed / "prometheus" / "data")
    yield from running(server)
