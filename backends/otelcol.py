"""The OpenTelemetry collector: that of the PATH, else built, some minutes, by observability/collector/builder.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from backends.cache import cache_directory, finish, finished, installing
from backends.go import go_build, go_install, run_go
from backends.observed import ObservedServer
from backends.server import CannotStart
from imageflow_cli.observe.servers import Run, collector

BUILDER = "go.opentelemetry.io/collector/cmd/builder"
BUILDER_VERSION = "v0.155.0"
MANIFEST = Path(__file__).resolve().parents[1] / "observability" / "collector" / "builder.yaml"


class OtelCollector(ObservedServer):
    """Decides on a trace after a second, so that tests need not wait. Reads logs in `logs` beside it. `more` are
    settings of the configuration."""

    name = "otelcol"
    ready_path = "/"
    sampling: ClassVar[Mapping[str, str]] = {"IMAGEFLOW_SAMPLING_WAIT": "1s"}

    def __init__(self, directory: Path, more: Mapping[str, str] | None = None) -> None:
        super().__init__(directory)
        self._more = more or {}

    def install(self) -> None:
        install_collector()

    def port(self) -> int:
        return self.places.collector_health

    def prepare(self) -> None:
        self.logs.mkdir(exist_ok=True)

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def traces_file(self) -> Path:
        return self.directory / "traces.json"

    @property
    def otlp_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.places.otlp}"

    def run(self) -> Run:
        return collector(
            str(program()), self.directory, self.places, logs=self.logs, settings={**self.sampling, **self._more}
        )

    def settings(self) -> Mapping[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.otlp_endpoint,
            "IMAGEFLOW_GATEWAY_STATUS_PORT": str(self.places.gateway_status),
        }


def install_collector() -> None:
    """Raises CannotStart."""
    if shutil.which("otelcol"):
        return
    manifest = MANIFEST.read_text()
    with installing("otelcol") as folder:
        if finished(folder, manifest):
            return
        go_install(folder, BUILDER, BUILDER_VERSION)
        (folder / "builder.yaml").write_text(manifest)
        _write_sources(folder)
        go_build(folder / "sources", ".", folder / "otelcol")
        finish(folder, manifest)


def _write_sources(folder: Path) -> None:
    """The builder's own tidying asks for modules that only tests need, of which some are not to be had; what it has
    written by then is whole."""
    command = [str(folder / "builder"), "--config", "builder.yaml", "--skip-compilation", "--skip-strict-versioning"]
    try:
        run_go(command, directory=folder, programs=folder)
    except CannotStart:
        if not (folder / "sources" / "go.mod").exists():
            raise


def program() -> Path:
    """The collector, installed."""
    found = shutil.which("otelcol")
    return Path(found) if found else cache_directory() / "otelcol" / "otelcol"
