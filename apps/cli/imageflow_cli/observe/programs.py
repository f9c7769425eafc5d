"""Where the programs are that keep metrics, traces and logs, and how each is had where it is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Found:
    """What can be run here, by name, and for what is missing, how it is had."""

    programs: Mapping[str, str]
    missing: Mapping[str, str]


HOW: Final[Mapping[str, str]] = {
    "otelcol": "the OpenTelemetry collector: put `otelcol` on the PATH, built by observability/collector/builder.yaml, "
    "or in the source tree: python -m backends up otelcol (needs go; some minutes)",
    "prometheus": "Prometheus: apt-get install prometheus, or in the source tree: python -m backends up prometheus",
    "zipkin": "Zipkin: name the server's jar by IMAGEFLOW_ZIPKIN_JAR (java on the PATH), or in the source tree: "
    "python -m backends up zipkin (needs mvn)",
    "loki": "Loki: put `loki` on the PATH, or in the source tree: python -m backends up loki (needs go; some minutes)",
}


def find_programs() -> Found:
    """Looks on the PATH, then where the source tree's `backends` keep what they installed."""
    cache = _cache()
    look: Mapping[str, Callable[[], str | None]] = {
        "otelcol": lambda: _binary("otelcol", cache),
        "prometheus": lambda: _binary("prometheus", cache),
        "zipkin": lambda: _zipkin(cache),
        "loki": lambda: _binary("loki", cache),
    }
    found = {name: place for name, find in look.items() if (place := find()) is not None}
    return Found(found, {name: how for name, how in HOW.items() if name not in found})


def _binary(name: str, cache: Path) -> str | None:
    return shutil.which(name) or shutil.which(name, path=str(cache / name))


def _zipkin(cache: Path) -> str | None:
    named = os.environ.get("IMAGEFLOW_ZIPKIN_JAR")
    jars = [Path(named)] if named else sorted((cache / "zipkin").glob("zipkin-server-*-exec.jar"))
    there = [jar for jar in jars if jar.is_file()]
    return str(there[-1]) if there and shutil.which("java") else None


def _cache() -> Path:
    named = os.environ.get("IMAGEFLOW_BACKENDS_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imageflow-backends"
