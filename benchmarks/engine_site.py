"""The engine in this process, with nothing before it, and the component that does nothing in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from imageflow.v1.pipeline_pb2 import Pipeline
from imageflow_common.images import encode
from imageflow_common.pixels import Pixels
from imageflow_orchestrator.app import Orchestrator, build
from imageflow_orchestrator.json_body import parse_body
from imageflow_orchestrator.settings import OrchestratorSettings

_NOOP = Path(__file__).with_name("noop.py")


@dataclass(frozen=True, slots=True)
class Served:
    """A process that serves, and where."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Site:
    """The engine, ready, and its component. `folder` is in memory, where there is such."""

    orchestrator: Orchestrator
    component: Served


@contextmanager
def served(*arguments: str) -> Iterator[Served]:
    """The component, or with `echo` the bare service, until the block ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEFLOW_")}
    environment |= {"IMAGEFLOW_PORT": "0"}
    command = [sys.executable, str(_NOOP), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            said = next(line for line in process.stderr if '"port"' in line)
            yield Served(process.pid, json.loads(said)["port"])
        finally:
            process.kill()


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """As `imageflow up` sets it up, but that nothing listens; the store keeps what it is given (fsync)."""
    with TemporaryDirectory(prefix="imageflow-benchmark-") as folder, served() as component:
        registry = Path(folder) / "components.yaml"
        target = {"address": f"127.0.0.1:{component.port}", "profile": "small"}
        registry.write_text(json.dumps({"components": {"noop": {"targets": {"default": target}}}}))
        settings = OrchestratorSettings(store_url=f"file://{folder}/store", registry_file=registry)
        async with build(settings) as orchestrator:
            await orchestrator.catalog.refresh()
            yield Site(orchestrator, component)


def chain(length: int) -> Pipeline:
    """Steps that do nothing, each after the one before."""
    return _pipeline([[f"s{number - 1}"] if number else [] for number in range(length)])


def fan(length: int) -> Pipeline:
    """A first step, those that all follow it, and a last one that waits for all of these."""
    wide = [["s0"]] * (length - 2)
    return _pipeline([[], *wide, [f"s{number}" for number in range(1, length - 1)]])


@cache
def image() -> bytes:
    """A PNG of noise, of 1 kB; its pixels are 918 bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (17, 18, 3), np.uint8)
    return encode(Pixels(noise), media_type="image/png")


def _pipeline(dependencies: list[list[str]]) -> Pipeline:
    steps: list[dict[str, Any]] = [
        {"stepId": f"s{number}", "componentName": "noop", "dependencies": waited_for}
        for number, waited_for in enumerate(dependencies)
    ]
    if len(dependencies[-1]) > 1:
        steps[-1]["inputFrom"] = {"image": dependencies[-1][0]}
    definition = {"pipelineId": "noop", "version": "1", "steps": steps, "outputStep": steps[-1]["stepId"]}
    message, faults = parse_body(json.dumps(definition).encode(), Pipeline)
    assert not faults, faults
    return message
