"""Detection from pixels to findings: letterbox, infer, decode; tile by tile where that is asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from imageflow_common.pixels import Affine, Pixels
from imageflow_detect.backend import Backend
from imageflow_detect.boxes import Boxes, Floats, map_corners
from imageflow_detect.decode import Wanted, class_ids_of, decode
from imageflow_detect.fallback import Inference, Ran
from imageflow_detect.letterbox import letterbox
from imageflow_detect.models import Model, ModelRepository
from imageflow_detect.tiles import Tile, merge, tiles_of


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


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of size×size pixels, each sharing at least `overlap`, 0…1 of its side, with the next."""

    size: int
    overlap: float = 0.2


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for. `classes` are labels or ids (empty: all); `tiling` None: the picture as a whole;
    `may_fall_back`: whether the fallback may run the model where the backend cannot be had. The rest is as in
    `decode.Wanted`."""

    model_name: str
    model_version: str = ""
    confidence_threshold: float = 0.5
    nms_threshold: float = 0.4
    max_detections: int = 300
    classes: Sequence[str] = ()
    class_agnostic: bool = False
    min_box_size: float = 0.0
    tiling: Tiling | None = None
    may_fall_back: bool = False

    def wanted(self, model: Model) -> Wanted:
        """Raises InvalidParameters for a class that the model does not know."""
        return Wanted(
            confidence_threshold=self.confidence_threshold,
            nms_threshold=self.nms_threshold,
            max_detections=self.max_detections,
            class_ids=class_ids_of(self.classes, model.labels),
            class_agnostic=self.class_agnostic,
            min_box_size=self.min_box_size,
        )


class Detections(NamedTuple):
    """What was found, strongest first, how long inference alone took, the model that ran, and where."""

    found: tuple[Found, ...]
    inference_ms: float
    model: Model
    ran: Ran


class _Seen(NamedTuple):
    boxes: Boxes
    inference_ms: float


class Detector:
    """Finds objects. Safe to use from any thread; one call uses one thread."""

    def __init__(self, repository: ModelRepository, backend: Backend, *, fallback: Backend | None = None) -> None:
        self._repository = repository
        self._backend = backend
        self._fallback = fallback

    def detect(self, pixels: Pixels, question: Question) -> Detections:
        """What the model sees in the picture. The pixels are not changed.

        Raises ModelNotFound or ModelInvalid (both FailedPrecondition), InvalidParameters for a class that the
        model does not know or for too many tiles, ImageFlowError when inference fails.
        """
        model = self._repository.resolve(question.model_name, question.model_version)
        wanted = question.wanted(model)
        inference = Inference(self._backend, self._fallback if question.may_fall_back else None)
        inference.prepare(model)
        seen = self._look(pixels, model, wanted, question.tiling, inference)
        found = as_found(seen.boxes, labels=model.labels, to_input=pixels.to_input)
        return Detections(found, seen.inference_ms, model, inference.ran)

    def _look(self, pixels: Pixels, model: Model, wanted: Wanted, tiling: Tiling | None, inference: Inference) -> _Seen:
        """The boxes in the picture's pixels."""
        if tiling is None:
            return self._look_at(pixels, model, wanted, inference)
        width, height = pixels.width, pixels.height
        tiles = tiles_of(width, height, size=tiling.size, overlap=tiling.overlap)
        seen = [self._look_at(_part(pixels, tile), model, wanted, inference) for tile in tiles]
        boxes = merge(
            [
                (tile, each.boxes.mapped(Affine.translation(tile.x, tile.y)))
                for tile, each in zip(tiles, seen, strict=True)
            ],
            width=width,
            height=height,
            threshold=wanted.nms_threshold,
            at_most=wanted.max_detections,
            class_agnostic=wanted.class_agnostic,
        )
        return _Seen(boxes, sum(each.inference_ms for each in seen))

    def _look_at(self, pixels: Pixels, model: Model, wanted: Wanted, inference: Inference) -> _Seen:
        boxed = letterbox(pixels, model.manifest)
        start = time.perf_counter()
        answer = inference.infer(model, boxed.tensor)
        inference_ms = (time.perf_counter() - start) * 1e3
        boxes = decode(
            answer,
            manifest=model.manifest,
            to_pixels=boxed.to_pixels,
            width=pixels.width,
            height=pixels.height,
            wanted=wanted,
        )
        return _Seen(boxes, inference_ms)


def _part(pixels: Pixels, tile: Tile) -> Pixels:
    left, top, right, bottom = tile.corners
    return Pixels(pixels.array[top:bottom, left:right])


def as_found(boxes: Boxes, *, labels: Sequence[str], to_input: Affine) -> tuple[Found, ...]:
    """Boxes as findings, in their own pixels and, by `to_input`, in those of the pipeline's input."""
    mapped = map_corners(boxes.corners, to_input)
    rows = zip(boxes.class_ids.tolist(), boxes.scores.tolist(), _boxes(boxes.corners), _boxes(mapped), strict=True)
    return tuple(Found(labels[number], number, score, box, input_box) for number, score, box, input_box in rows)


def _boxes(corners: Floats) -> list[Box]:
    return [Box(left, top, right - left, bottom - top) for left, top, right, bottom in corners.tolist()]
