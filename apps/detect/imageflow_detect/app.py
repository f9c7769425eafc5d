"""The detect component: its function, and its main program."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from imageflow.v1.component_pb2 import DescribeResponse
from imageflow.v1.detect_pb2 import Box, Detection, DetectMetadata, DetectParameters
from imageflow_common.component import Component, Result, component
from imageflow_common.pixels import Pixels
from imageflow_common.readiness import Unready
from imageflow_common.serve import serve
from imageflow_common.settings import ComponentSettings, PositiveInt, PositiveSeconds, load_settings

from . import detect as detection
from .annotate import annotate
from .backend import OnnxBackend
from .coco import as_coco
from .detect import Detector, Found, Question, Tiling
from .models import ModelRepository

if TYPE_CHECKING:
    from .triton import TritonBackend


def _address(text: str) -> str:
    if not re.fullmatch(r"(dns:///)?[^\s/]+:\d+", text):
        raise ValueError("expected HOST:PORT")
    return text


class DetectSettings(ComponentSettings):
    """What the detect component takes besides what every component does."""

    models_directory: Path = Path("models")
    """The model repository, in Triton's layout."""
    models_required: bool = False
    """Whether detect does not serve while there is no model in it, as in a container whose volume is missing."""
    max_in_flight: PositiveInt = 20
    timeout_seconds: PositiveSeconds = 60.0
    triton_url: Annotated[str, AfterValidator(_address)] | None = None
    """`HOST:PORT` of an NVIDIA Triton's gRPC, which runs the models; unset: ONNX Runtime does, in the process."""
    triton_timeout_seconds: PositiveSeconds = 10.0
    """The longest that Triton may take for one inference."""
    triton_load_models: bool = True
    """Whether Triton is asked to load what it does not serve, which it does under explicit model control."""
    triton_shared_memory: bool = True
    """Whether tensors travel in shared memory where Triton is on this machine."""


def build(detector: Detector) -> Component:
    """The component over a detector."""

    @component(
        name="detect",
        service="imageflow.v1.DetectService",
        effect=DescribeResponse.WHEN_PARAMETER,
        effect_parameter="annotate",
    )
    def detect(image: Pixels, parameters: DetectParameters) -> Result:
        """Finds objects in an image."""
        done = detector.detect(image, _question(parameters))
        metadata = DetectMetadata(
            detections=[_message(found) for found in done.found],
            model_name=done.model.name,
            model_version=str(done.model.version),
            backend=done.ran.backend,
            inference_ms=done.inference_ms,
            fallback_reason=done.ran.fallback_reason,
        )
        if parameters.coco:
            size = {"width": image.width, "height": image.height}
            metadata.coco.CopyFrom(as_coco(done.found, labels=done.model.labels, **size))
        drawn = annotate(image, done.found) if parameters.annotate else None
        return Result(drawn, metadata, f"{len(done.found)} detections")

    return detect


def _question(parameters: DetectParameters) -> Question:
    tiling = Tiling(parameters.tile_size, parameters.tile_overlap) if parameters.tile_size else None
    return Question(
        model_name=parameters.model_name,
        model_version=parameters.model_version,
        confidence_threshold=parameters.confidence_threshold,
        nms_threshold=parameters.nms_threshold,
        max_detections=parameters.max_detections,
        classes=tuple(parameters.classes),
        class_agnostic=parameters.class_agnostic,
        min_box_size=parameters.min_box_size,
        tiling=tiling,
        may_fall_back=parameters.on_unavailable == "local",
    )


def _message(found: Found) -> Detection:
    return Detection(
        label=found.label,
        class_id=found.class_id,
        confidence=found.confidence,
        box=_box(found.box),
        input_box=_box(found.input_box),
    )


def _box(box: detection.Box) -> Box:
    return Box(x=box.x, y=box.y, width=box.width, height=box.height)


def main() -> None:
    """Serves the component until it is told to stop."""
    settings = load_settings(DetectSettings)
    repository, local = ModelRepository(settings.models_directory), OnnxBackend()
    models = [repository.unready] if settings.models_required else []
    url = settings.triton_url
    if not url:
        serve(build(Detector(repository, local)), settings, unready=_first_of(models))
        return
    if "max_running" not in settings.model_fields_set:  # a thread that waits for Triton computes nothing
        settings = settings.model_copy(update={"max_running": settings.max_in_flight})
    with closing(_triton(url, settings)) as triton:
        unready = _first_of([triton.unready, *models])
        serve(build(Detector(repository, triton, fallback=local)), settings, unready=unready)


def _first_of(asked: Sequence[Unready]) -> Unready | None:
    """What the first says that says anything."""
    return (lambda: next((reason for ask in asked if (reason := ask())), "")) if asked else None


def _triton(url: str, settings: DetectSettings) -> TritonBackend:
    """Ends the process with status 78 (EX_CONFIG) where its client is not installed."""
    try:
        from .triton import TritonBackend, TritonOptions
    except ModuleNotFoundError as exc:
        print(f"IMAGEFLOW_TRITON_URL needs what imageflow-detect[triton] installs: {exc}", file=sys.stderr)
        raise SystemExit(78) from exc
    options = TritonOptions(
        url,
        timeout_seconds=settings.triton_timeout_seconds,
        load_models=settings.triton_load_models,
        shared_memory=settings.triton_shared_memory,
        max_message_bytes=settings.max_message_bytes,
    )
    return TritonBackend(options)
