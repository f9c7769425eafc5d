"""What the tests share: a polling wait, .proto files compiled on the spot, and a real component in a process."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow.v1.image_pb2 import RawLayout
from imageflow_common.component import Component
from imageflow_common.descriptors import Descriptors, load_descriptors
from imageflow_common.formats import RAW
from imageflow_common.rpc import channel_options

COMPONENTS = Path(__file__).parent / "components"
DEADLINE_SECONDS = 20.0
PROBE_METHOD = "/acme.v1.ProbeService/Process"

Proto = Callable[[str], Descriptors]


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Any]:
    """`await eventually(check)` polls until `check` holds, and fails after a while."""

    async def wait(check: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_SECONDS
        while not check():
            if time.monotonic() > end:
                pytest.fail(f"not in {DEADLINE_SECONDS:.0f} s")
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def compile_proto(tmp_path: Path) -> Proto:
    """Compiles the body of a .proto of package acme.v1 that may use all of a component's messages."""

    def compile_body(body: str) -> Descriptors:
        imports = "".join(f'import "imageflow/v1/{name}.proto";\n' for name in ("component", "image", "parameter"))
        path = tmp_path / "made.proto"
        path.write_text(f'syntax = "proto3";\npackage acme.v1;\n{imports}{body}')
        return load_descriptors(path)

    return compile_body


@pytest.fixture(scope="session")
def probe() -> Component:
    """The component of components/probe.py, in this process."""
    spec = importlib.util.spec_from_file_location("probe_component", COMPONENTS / "probe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    component: Component = module.probe
    return component


@pytest.fixture(scope="session")
def probe_request(probe: Component) -> Callable[..., ComponentRequest]:
    """Makes a request for `width`×`height` grey raw pixels, inline, with these parameters."""

    def make(width: int = 4, height: int = 3, **parameters: Any) -> ComponentRequest:
        data = bytes(index % 251 for index in range(width * height))
        request = ComponentRequest(payload=data, parameters=probe.schema.encode(parameters))
        image = request.inputs.add(media_type=RAW, size_bytes=len(data))
        image.payload_range.size_bytes = len(data)
        image.raw_layout.CopyFrom(RawLayout(width=width, height=height, channels=1, sample_type=RawLayout.UINT8))
        return request

    return make


@dataclass(slots=True)
class ServedComponent:
    """A component in a process of its own. `log` has its events; `text` what it wrote besides."""

    process: subprocess.Popen[str]
    log: list[dict[str, Any]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.log[0]["port"])

    def read_log(self) -> None:
        """Reads up to the end of the process."""
        for line in self.process.stderr or ():
            self._read_line(line)

    def wait_for(self, message: str, count: int = 1) -> None:
        """Reads until there are so many events of this name."""
        assert self.process.stderr is not None
        while sum(event["message"] == message for event in self.log) < count:
            line = self.process.stderr.readline()
            if not line:
                pytest.fail(f"the component ended: {self.text}")
            self._read_line(line)

    def finish(self) -> int:
        """Waits for the end; answers the exit status."""
        self.read_log()
        return self.process.wait(DEADLINE_SECONDS)

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", channel_options(64 * 1024 * 1024))

    def call(self, channel: grpc.aio.Channel, request: ComponentRequest, **options: Any) -> Any:
        """A call of the probe under way."""
        method = channel.unary_unary(PROBE_METHOD, ComponentRequest.SerializeToString, ComponentResponse.FromString)
        return method(request, timeout=options.pop("timeout", DEADLINE_SECONDS), **options)

    def _read_line(self, line: str) -> None:
        if line.startswith("{"):
            self.log.append(json.loads(line))
        else:
            self.text.append(line.rstrip())


@pytest.fixture
def serve_probe() -> Iterator[Callable[..., ServedComponent]]:
    """Starts components/probe.py on a free port, with `IMAGEFLOW_…` settings in lower case and any environment."""
    started: list[ServedComponent] = []

    def start(environ: dict[str, str] | None = None, **settings: object) -> ServedComponent:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("IMAGEFLOW_", "OTEL_"))}
        own = {f"IMAGEFLOW_{key.upper()}": str(value) for key, value in {"port": 0, **settings}.items()}
        process = subprocess.Popen(
            [sys.executable, str(COMPONENTS / "probe.py")],
            env=inherited | own | (environ or {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        served = ServedComponent(process)
        started.append(served)
        served.wait_for("component.ready")
        return served

    yield start
    for each in started:
        each.process.kill()
        each.process.wait(DEADLINE_SECONDS)
        assert each.process.stderr is not None
        each.process.stderr.close()
