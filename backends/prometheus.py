"""Prometheus and promtool: those of the PATH, else unpacked from Debian's package, else built with the Go compiler."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from backends.cache import cache_directory, finish, finished, installing
from backends.go import go_install
from backends.observed import ObservedServer
from imageflow_cli.observe.servers import Run, prometheus

VERSION = "v0.316.0"  # of the Go module, which is 3.x of the program
_PROGRAMS = ("prometheus", "promtool")
_DOWNLOAD_SECONDS = 300


class Prometheus(ObservedServer):
    """Asks the collector of its folder every second, so that tests need not wait, or as seldom as it is told to."""

    name = "prometheus"
    ready_path = "/-/ready"

    def __init__(self, directory: Path, interval_seconds: int = 1) -> None:
        super().__init__(directory)
        self._interval_seconds = interval_seconds

    def install(self) -> None:
        install_prometheus()

    def port(self) -> int:
        return self.places.prometheus

    def run(self) -> Run:
        return prometheus(
            str(program("prometheus")), self.directory, self.places, interval_seconds=self._interval_seconds
        )

    def settings(self) -> Mapping[str, str]:
        return {"IMAGEFLOW_PROMETHEUS_URL": self.url}


def install_prometheus() -> None:
    """Raises CannotStart."""
    if all(shutil.which(each) for each in _PROGRAMS):
        return
    with installing("prometheus") as folder:
        if finished(folder, VERSION):
            return
        if not _from_debian(folder):
            for each in _PROGRAMS:
                go_install(folder, f"github.com/prometheus/prometheus/cmd/{each}", VERSION)
        finish(folder, VERSION)


def program(name: str) -> Path:
    """`prometheus` or `promtool`, installed."""
    found = shutil.which(name)
    return Path(found) if found else cache_directory() / "prometheus" / name


def _from_debian(folder: Path) -> bool:
    """The package's two programs need nothing else of it. Answers whether there was such a package."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return False
    unpacked = folder / "unpacked"
    try:
        for command in (["apt-get", "download", "prometheus"], ["sh", "-c", f"dpkg -x prometheus_*.deb {unpacked}"]):
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_DOWNLOAD_SECONDS)
    except (subprocess.SubprocessError, OSError):
        return False
    for each in _PROGRAMS:
        (unpacked / "usr/bin" / each).replace(folder / each)
    shutil.rmtree(unpacked)
    return True
