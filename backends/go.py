"""Builds servers that are written in Go, with Go's own client, at a low priority; programs go to a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.server import CannotStart

_BUILD_SECONDS = 3_600
_SMALL = ("-trimpath", "-ldflags=-s -w")


def go_install(folder: Path, package: str, version: str) -> None:
    """Builds one program into the folder. Raises CannotStart."""
    run_go(["go", "install", *_SMALL, f"{package}@{version}"], directory=folder, programs=folder)


def go_build(sources: Path, package: str, program: Path) -> None:
    """Builds a package that the module in `sources` has or requires. Raises CannotStart."""
    run_go(
        ["go", "build", "-mod=mod", *_SMALL, "-o", str(program), package], directory=sources, programs=program.parent
    )


def run_go(
    command: Sequence[str], *, directory: Path, programs: Path, environment: Mapping[str, str] | None = None
) -> str:
    """Runs a command of Go's; answers what it printed. Raises CannotStart."""
    if shutil.which("go") is None:
        raise CannotStart(f"needs go: {programs.name} is built from its source")
    try:
        done = subprocess.run(
            ["nice", "-n", "15", *command],
            cwd=directory,
            env={**os.environ, "GOBIN": str(programs), "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
            | dict(environment or {}),
            check=True,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )
    except subprocess.CalledProcessError as exc:
        raise CannotStart(f"{programs.name} could not be built:\n{exc.stderr[-2_000:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise CannotStart(f"{programs.name} was not built within {_BUILD_SECONDS} s") from exc
    return done.stdout
