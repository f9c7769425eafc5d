"""The product as a user starts it: `imageflow up`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, cast

from .workloads import MODELS

_STOP_SECONDS = 40.0


class NotStarted(Exception):
    """`imageflow up` ended instead of getting ready; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Product:
    """What runs. `start_seconds` is from the command to its saying that it is ready."""

    url: str
    pids: Mapping[str, int]
    shared_directory: Path
    start_seconds: float


@contextmanager
def product(
    *,
    shared_memory: bool,
    registry: Path | None = None,
    triton: str | None = None,
    kafka: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Product]:
    """Runs on free ports, with a store of its own, until the block ends; `registry` tells of further components,
    `triton` and `kafka` are the addresses of such, `environment` has further settings. Raises NotStarted."""
    with TemporaryDirectory(prefix="imageflow-benchmark-") as folder:
        data, said = Path(folder) / "data", Path(folder) / "said.txt"
        command = _command(data, shared_memory=shared_memory, registry=registry, triton=triton, kafka=kafka)
        started = perf_counter()
        with (
            said.open("w") as stderr,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=_environment() | dict(environment or {})
            ) as process,
        ):
            try:
                answer = _first_answer(process)
                seconds = perf_counter() - started
                if "url" not in answer:
                    raise NotStarted(f"{answer} {said.read_text()}")
                yield _running(answer, process.pid, data, seconds)
            finally:
                _stop(process)


def _running(answer: dict[str, Any], pid: int, data: Path, seconds: float) -> Product:
    pids = {each["name"]: each["pid"] for each in answer["processes"]}
    state = json.loads((data / "run" / "state.json").read_text())
    return Product(answer["url"], {"up": pid, **pids}, Path(state["shared_directory"]), seconds)


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    finally:
        process.kill()


def _command(
    data: Path, *, shared_memory: bool, registry: Path | None, triton: str | None, kafka: str | None
) -> list[str]:
    transport = "--shared-memory" if shared_memory else "--no-shared-memory"
    places = ["--port", "0", "--data", str(data), "--models", str(MODELS)]
    further = ["--registry", str(registry)] if registry else []
    further += ["--triton", triton] if triton else []
    further += ["--kafka", kafka] if kafka else []
    answers = ["--log-level", "WARNING", "--json"]
    return [sys.executable, "-m", "imageflow_cli", "up", transport, *places, *further, *answers]


def _environment() -> dict[str, str]:
    """Ours, without settings of the product's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IMAGEFLOW_")}


def _first_answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON document that it writes when it is ready, or when it cannot be; nothing where it wrote none."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.rstrip() == "}":
            break
    return cast("dict[str, Any]", json.loads("".join(lines) or "{}"))
