"""A component of the product, as a process, that writes every call into the ledger, and has faults when it is told.

    CRASH_LEDGER=FILE CRASH_FAULTS=FILE python -m tests.crash.counted_component resize|filter|detect

A step whose id begins with `flaky` is refused at its first attempt, one that begins with `broken` always. The faults
are a JSON object that is read at each call: see `Faults`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow_common.component import Component
from imageflow_common.errors import ImageFlowError, InvalidParameters, Unavailable
from imageflow_common.serve import ComponentServer, serve

from .ledger import LEDGER_VARIABLE, Ledger

FAULTS_VARIABLE = "CRASH_FAULTS"


class Faults(BaseModel):
    """What a component does to every call: waits before it, refuses, answers `nothing`, `another format`, `no bytes` or
    `too few pixels`."""

    delay_seconds: float = 0.0
    refuse: str = ""
    answer: str = ""


def read_faults(file: Path) -> Faults:
    return Faults.model_validate_json(file.read_bytes()) if file.exists() else Faults()


def build(name: str) -> tuple[Component, Any]:
    """The component and, where it has settings of its own, those."""
    if name == "resize":
        from imageflow_resize.app import resize

        return resize, None
    if name == "filter":
        from imageflow_filter.app import filter_pixels

        return filter_pixels, None
    from imageflow_common.settings import load_settings
    from imageflow_detect.app import DetectSettings
    from imageflow_detect.app import build as build_detect
    from imageflow_detect.backend import OnnxBackend
    from imageflow_detect.detect import Detector
    from imageflow_detect.models import ModelRepository

    settings = load_settings(DetectSettings)
    return build_detect(Detector(ModelRepository(settings.models_directory), OnnxBackend())), settings


def refuse(request: ComponentRequest, faults: Faults) -> None:
    step_id = request.context.step_id
    if step_id.startswith("flaky") and request.context.attempt == 1:
        raise Unavailable("as it was told")
    if step_id.startswith("broken"):
        raise InvalidParameters("as it was told")
    if faults.refuse:
        errors: Mapping[str, type[ImageFlowError]] = {"UNAVAILABLE": Unavailable, "INTERNAL": ImageFlowError}
        raise errors[faults.refuse]("as it was told")


def spoil(response: ComponentResponse, faults: Faults) -> ComponentResponse:
    match faults.answer:
        case "nothing":
            return ComponentResponse()
        case "another format":
            response.image.media_type = "image/bmp"
        case "no bytes":
            response.image.ClearField("location")
        case "too few pixels":
            response.image.size_bytes //= 2
    return response


def main() -> None:
    ledger = Ledger(Path(os.environ[LEDGER_VARIABLE]))
    file = Path(os.environ[FAULTS_VARIABLE])
    process = ComponentServer.process

    async def counted(server: ComponentServer, request: ComponentRequest, context: Any) -> ComponentResponse:
        asked = request.context
        ledger.write("call", asked.execution_id, asked.step_id, asked.attempt)
        faults = read_faults(file)
        await asyncio.sleep(faults.delay_seconds)
        refuse(request, faults)
        return spoil(await process(server, request, context), faults)

    ComponentServer.process = counted  # type: ignore[assignment, method-assign]
    component, settings = build(sys.argv.pop(1))
    serve(component, settings)


if __name__ == "__main__":
    main()
