"""Zipkin: a store of traces, from Maven Central by `mvn`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from backends.cache import cache_directory, finish, finished, installing
from backends.observed import ObservedServer
from backends.server import CannotStart
from imageflow_cli.observe.servers import Run, zipkin

VERSION = "3.5.1"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_PROJECT = """<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>imageflow</groupId><artifactId>zipkin</artifactId><version>1</version><packaging>pom</packaging>
</project>
"""
_DOWNLOAD_SECONDS = 600


class Zipkin(ObservedServer):
    name = "zipkin"
    ready_path = "/health"

    def install(self) -> None:
        for needed in ("java", "mvn"):
            if shutil.which(needed) is None:
                raise CannotStart(f"needs {needed}: Zipkin is fetched by Maven, and runs on Java 17 or later")
        with installing("zipkin") as folder:
            if not finished(folder, VERSION):
                _fetch(folder)
                finish(folder, VERSION)

    def port(self) -> int:
        return self.places.zipkin

    def run(self) -> Run:
        return zipkin("java", jar(), self.places)

    def settings(self) -> Mapping[str, str]:
        return {"OTEL_EXPORTER_ZIPKIN_ENDPOINT": f"{self.url}/api/v2/spans", "IMAGEFLOW_ZIPKIN_URL": self.url}


def jar() -> Path:
    """The server, installed."""
    return cache_directory() / "zipkin" / f"zipkin-server-{VERSION}-exec.jar"


def _fetch(folder: Path) -> None:
    (folder / "pom.xml").write_text(_PROJECT)
    artifact = f"-Dartifact=io.zipkin:zipkin-server:{VERSION}:jar:exec"
    fetched = subprocess.run(
        ["mvn", "-B", "-q", _COPY, artifact, f"-DoutputDirectory={folder}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_DOWNLOAD_SECONDS,
        check=False,
    )
    if fetched.returncode:
        raise CannotStart(f"needs Zipkin's jar: {fetched.stdout[-2_000:]}")
