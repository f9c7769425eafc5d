"""A second product, as a user who extends it has it: a component of his own, his collector, tight limits."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml

from imageflow_cli.ports import free_ports

from .callers import Callers
from .collector import Collector
from .product import Product, clean_environment

MAX_RUNNING = MAX_WAITING = 2
PACKAGES = (
    *("imageflow.v1", "imageflow_common", "imageflow_orchestrator"),
    *("imageflow_resize", "imageflow_detect", "imageflow_filter", "imageflow_cli"),
)


@dataclass(frozen=True, slots=True)
class Workshop:
    """`folder` has the user's files. `installed_before` is the product's own code before any of this."""

    product: Product
    callers: Callers
    collector: Collector
    folder: Path
    installed_before: str


def settings(collector: Collector) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "IMAGEFLOW_MAX_RUNNING_EXECUTIONS": str(MAX_RUNNING),
        "IMAGEFLOW_MAX_WAITING_EXECUTIONS": str(MAX_WAITING),
    }


@contextmanager
def running_elsewhere(folder: Path) -> Iterator[int]:
    """The user's component, started by hand; answers its port. Ended by its pid."""
    (port,) = free_ports(1)
    with (folder / "elsewhere.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "tint.py"],
            cwd=folder,
            env={**clean_environment(), "IMAGEFLOW_PORT": str(port)},
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.terminate()
        assert process.wait(30) == 0


def write_component(folder: Path) -> Path:
    """The user's files; answers his registry, in which the component is `tint`, started here."""
    shutil.copytree(Path(__file__).parent / "tint", folder, dirs_exist_ok=True)
    return folder / "registry.yaml"


def register(registry: Path, name: str, address: str) -> None:
    """A component that runs already."""
    entries = yaml.safe_load(registry.read_text())
    entries["components"][name] = {"address": address}
    registry.write_text(yaml.safe_dump(entries))


def installed() -> str:
    """A hash of every file of the product as it is installed here, byte-code aside."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations
        folder = Path(spec.submodule_search_locations[0])
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(os.fsencode(path.relative_to(folder)) + b"\0" + path.read_bytes())
    return digest.hexdigest()
