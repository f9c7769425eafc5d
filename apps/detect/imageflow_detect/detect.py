"""Detection from pixels to findings: letterbox, infer, decode."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from imageflow_common.pixels import Affine, Pixels
from imageflow_detect.backend import Backend
from imageflow_detect.decode import Boxes, Floats, class_ids_of, decode, map_corners
from imageflow_detect.letterbox import letterbox
from imageflow_detect.models import Model, ModelRepository


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle in pixels; the origin is the top left corner of the image."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Found:
    """One object: `confidence` is 0…1; `box` lies inside the image that was looked at, `input_box` is the
    same in the pipeline's input after orientation (the upright rectangle around it, where the map turns)."""

    label: str
    class_id: int
    confidence: float
    box: Box
    input_box: Box


class Detections(NamedTuple):
    """What was found, strongest first, how long inference alone took, and the model that ran."""

    found: tuple[Found, ...]
    inference_ms: float
    model: Model


class Detector:
    """Finds objects. Safe to use from any thread; one call uses one thread."""

    def __init__(self, repository: ModelRepository, backend: Backend) -> None:
        self._repository = repository
        self._backend = backend

    @property
    def backend_name(self) -> str:
        return self._backend.name

    def detect(
        self,
        pixels: Pixels,
        *,
        model_name: str,
        model_version: str = "",
        confidence_threshold: float = 0.5,
        nms_threshold: float = 0.4,
        max_detections: int = 300,
        classes: Sequence[str] = (),
    ) -> Detections:
        """What the model sees in the picture. The pixels are not changed.

        Raises ModelNotFound or ModelInvalid (both FailedPrecondition), InvalidParameters for a class that the
        model does not know, ImageFlowError when inference fails.
        """
        model = self._repository.resolve(model_name, model_version)
        class_ids = class_ids_of(classes, model.labels)
        self._backend.prepare(model)
        boxed = letterbox(pixels, model.manifest)
        start = time.perf_counter()
        (output,) = self._backend.infer(model, boxed.tensor)
        inference_ms = (time.perf_counter() - start) * 1e3
        boxes = decode(
            output,
            labels=model.labels,
            to_pixels=boxed.to_pixels,
            width=pixels.width,
            height=pixels.height,
            confidence_threshold=confidence_threshold,
            nms_threshold=nms_threshold,
            max_detections=max_detections,
            class_ids=class_ids,
        )
        return Detections(as_found(boxes, labels=model.labels, to_input=pixels.to_input), inference_ms, model)


def as_found(boxes: Boxes, *, labels: Sequence[str], to_input: Affine) -> tuple[Found, ...]:
    """Boxes as findings, in their own pixels and, by `to_input`, in those of the pipeline's input."""
    mapped = map_corners(boxes.corners, to_input)
    rows = zip(boxes.class_ids.tolist(), boxes.scores.tolist(), _boxes(boxes.corners), _boxes(mapped), strict=True)
    return tuple(Found(labels[number], number, score, box, input_box) for number, score, box, input_box in rows)


def _boxes(corners: Floats) -> list[Box]:
    return [Box(left, top, right - left, bottom - top) for left, top, right, bottom in corners.tolist()]
