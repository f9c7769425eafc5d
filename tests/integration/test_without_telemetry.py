"""Without a collector nobody pays for one: no service imports OpenTelemetry's SDK."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILDS = {
    "resize": "from imageflow_resize.app import resize as component",
    "filter": "from imageflow_filter.app import filter_pixels as component",
    "detect": """
from imageflow_detect.app import Detector, ModelRepository, OnnxBackend, build
component = build(Detector(ModelRepository(Path('models')), OnnxBackend()))
""",
    "orchestrator": """
import asyncio
from imageflow_orchestrator.app import OrchestratorSettings, build

async def once():
    async with build(OrchestratorSettings(store_url=Path('store').absolute().as_uri())):
        pass

asyncio.run(once())
component = None
""",
}
BEGIN = "from pathlib import Path\n"
END = """
import sys
from imageflow_common.serve import ComponentServer, ComponentSettings
from imageflow_common.telemetry import configure_telemetry
flush = configure_telemetry(service='x', version='1')
if component is not None:
    ComponentServer(component, ComponentSettings(), None).close()
flush()
print(*[name for name in sys.modules if name.startswith('opentelemetry.sdk')])
"""


def build(service: str, folder: Path, **environment: str) -> str:
    """The modules of the SDK that building a service brings in, in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "IMAGEFLOW_"))}
    return subprocess.run(
        [sys.executable, "-c", BEGIN + BUILDS[service] + END],
        env={**clean, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


@pytest.mark.parametrize("service", BUILDS)
def test_a_service_without_an_endpoint_has_no_sdk(service: str, tmp_path: Path) -> None:
    assert build(service, tmp_path) == ""


def test_one_with_an_endpoint_has_it(tmp_path: Path) -> None:
    """So that the test above would see it."""
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    assert "opentelemetry.sdk.trace" in build("resize", tmp_path, **nobody)
