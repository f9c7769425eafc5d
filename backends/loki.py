"""Loki: a store of logs; that of the PATH, else built, some minutes, as the main program of a module of our own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from backends.cache import cache_directory, finish, finished, installing
from backends.go import go_build, run_go
from backends.observed import ObservedServer
from imageflow_cli.observe.servers import Run, loki

VERSION = "v3.7.8"
_MODULE = "github.com/grafana/loki/v3"


class Loki(ObservedServer):
    name = "loki"
    ready_path = "/ready"

    def install(self) -> None:
        if shutil.which("loki"):
            return
        with installing("loki") as folder:
            if not finished(folder, VERSION):
                _write_sources(folder / "sources")
                go_build(folder / "sources", f"{_MODULE}/cmd/loki", folder / "loki")
                finish(folder, VERSION)

    def port(self) -> int:
        return self.places.loki

    def run(self) -> Run:
        return loki(str(program()), self.directory, self.places)

    def settings(self) -> Mapping[str, str]:
        return {"IMAGEFLOW_LOKI_URL": self.url}


def program() -> Path:
    """Loki, installed."""
    found = shutil.which("loki")
    return Path(found) if found else cache_directory() / "loki" / "loki"


def _write_sources(folder: Path) -> None:
    """Loki replaces modules by others, which `go install` refuses; a module that repeats that may be built. What it
    replaces by a folder of its own tree is published as well."""
    folder.mkdir(exist_ok=True)
    described = run_go(["go", "mod", "download", "-json", f"{_MODULE}@{VERSION}"], directory=folder, programs=folder)
    theirs = Path(json.loads(described)["GoMod"]).read_text()
    replaced = [line for line in theirs.splitlines() if line.startswith("replace ") and "=> ./" not in line]
    lines = ["module imageflow/loki", "", "go 1.26.0", "", f"require {_MODULE} {VERSION}", "", *replaced]
    (folder / "go.mod").write_text("\n".join(lines) + "\n")
