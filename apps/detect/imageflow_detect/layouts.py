"""What a network answers, read: from each layout of `manifest.OutputSpec` to boxes in network pixels.

Every layout is read as its authors read it: an anchor counts for its best class alone, if that class's score is at
least the threshold. Sources: Ultralytics, "YOLO11" (https://docs.ultralytics.com) for `yolo_v8` and `end_to_end`;
Jocher et al., YOLOv5, and Wang et al., "YOLOv7", 2022, for `yolo_v5`; Liu et al., "SSD: Single Shot MultiBox Detector",
2016, for `ssd`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from imageflow_common.errors import ImageFlowError
from imageflow_detect.boxes import Boxes, Floats, Integers
from imageflow_detect.manifest import Manifest, ModelInvalid, SsdOutput
from imageflow_detect.tensors import Array, check_answer

MAX_CANDIDATES: Final = 30_000
"""The most boxes that go on to suppression, the strongest; what Ultralytics calls max_nms."""

_Found = tuple[Floats, Floats, Integers]
"""Corners (N, 4), scores (N,) and class ids (N,) of the anchors that count, in the network's order."""


def candidates(
    answer: Sequence[Array], manifest: Manifest, *, threshold: float, class_ids: frozenset[int] = frozenset()
) -> Boxes:
    """The boxes that score at least `threshold`, of these classes (empty: all), strongest first, at most
    MAX_CANDIDATES, in network pixels; they may lie outside it, and overlap.

    Dropped: boxes with NaN or infinite numbers or without an area. Raises ImageFlowError when no score is a number
    at all, ModelInvalid for an answer of another shape, or a class that the manifest does not have.
    """
    check_answer(answer, manifest)
    corners, scores, found = _READERS[manifest.output.layout](answer, manifest, threshold)
    usable = np.isfinite(corners).all(axis=1) & np.isfinite(scores)
    usable &= (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    if class_ids:
        usable &= np.isin(found, list(class_ids))
    boxes = Boxes(corners[usable], np.minimum(scores[usable], 1.0), found[usable])
    return boxes.strongest_first(at_most=MAX_CANDIDATES)


def _read_yolo_v8(answer: Sequence[Array], manifest: Manifest, threshold: float) -> _Found:
    columns = answer[0][0]
    which = _certain(columns[4:].max(axis=0), threshold)
    chosen = columns[:, which]
    scores, class_ids = _best(chosen[4:].T)
    return _from_centres(chosen[:4].T), scores, class_ids


def _read_yolo_v5(answer: Sequence[Array], manifest: Manifest, threshold: float) -> _Found:
    rows = answer[0][0]
    which = _certain(rows[:, 4], threshold)
    chosen = rows[which]
    scores, class_ids = _best(chosen[:, 5:] * chosen[:, 4:5])
    certain = scores >= threshold
    return _from_centres(chosen[certain, :4]), scores[certain], class_ids[certain]


def _read_end_to_end(answer: Sequence[Array], manifest: Manifest, threshold: float) -> _Found:
    rows = answer[0][0]
    chosen = rows[_certain(rows[:, 4], threshold)].astype(np.float64)
    chosen = chosen[np.isfinite(chosen).all(axis=1)]
    class_ids = chosen[:, 5].astype(np.int64)
    strange = (class_ids < 0) | (class_ids >= len(manifest.labels))
    if strange.any():
        raise ModelInvalid(
            f"model '{manifest.name}' answers class {class_ids[strange][0]}; its manifest has {len(manifest.labels)} "
            "labels, from 0"
        )
    return chosen[:, :4], chosen[:, 4], class_ids


def _read_ssd(answer: Sequence[Array], manifest: Manifest, threshold: float) -> _Found:
    spec = manifest.output
    assert isinstance(spec, SsdOutput)
    boxes, logits, anchors = answer[0][0], answer[1][0], answer[2].reshape(-1, 4)
    if not len(boxes) == len(logits) == len(anchors):
        raise ModelInvalid(
            f"model '{manifest.name}' answers {len(boxes)} boxes, {len(logits)} scores and {len(anchors)} anchors"
        )
    certain = _activated(logits, spec)[:, int(spec.background) :]
    which = _certain(certain.max(axis=1), threshold)
    scores, class_ids = _best(certain[which])
    corners = _from_centres(_moved(boxes[which].astype(np.float64), anchors[which].astype(np.float64), spec))
    size = manifest.input.size
    return corners * [size.width, size.height, size.width, size.height], scores, class_ids


_READERS: Final[dict[str, Callable[[Sequence[Array], Manifest, float], _Found]]] = {
    "yolo_v8": _read_yolo_v8,
    "yolo_v5": _read_yolo_v5,
    "end_to_end": _read_end_to_end,
    "ssd": _read_ssd,
}


def _certain(best: npt.NDArray[np.floating], threshold: float) -> Integers:
    """Which anchors score at least the threshold. Raises ImageFlowError when not one score is a number."""
    if len(best) and np.isnan(best).all():
        raise ImageFlowError("the model answered no number, only NaN", reason="INFERENCE_FAILED")
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(best >= threshold)


def _best(scores: npt.NDArray[np.floating]) -> tuple[Floats, Integers]:
    """The score and the number of each row's best class; the first one's where two are equal. A row that has anything
    else than finite numbers scores NaN."""
    class_ids = scores.argmax(axis=1) if scores.shape[1] else np.zeros(len(scores), np.int64)
    best = np.take_along_axis(scores, class_ids[:, None], axis=1)[:, 0].astype(np.float64)
    best[~np.isfinite(scores).all(axis=1)] = np.nan
    return best, class_ids.astype(np.int64)


def _from_centres(rows: npt.NDArray[np.floating]) -> Floats:
    """Corners of rows centre x, centre y, width, height."""
    wide = rows.astype(np.float64)
    centre, half = wide[:, :2], wide[:, 2:4] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _activated(logits: Array, spec: SsdOutput) -> Floats:
    wide = logits.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if spec.activation == "sigmoid":
            return 1 / (1 + np.exp(-wide))
        if spec.activation == "softmax":
            powers: Floats = np.exp(wide - wide.max(axis=1, keepdims=True))
            return cast(Floats, powers / powers.sum(axis=1, keepdims=True))
    return wide


def _moved(boxes: Floats, anchors: Floats, spec: SsdOutput) -> Floats:
    """Centre x, centre y, width, height, as parts of the network's input."""
    steps = boxes / np.array(spec.scales)
    if spec.order == "yxhw":
        steps, anchors = steps[:, [1, 0, 3, 2]], anchors[:, [1, 0, 3, 2]]
    centres, sizes = anchors[:, :2], anchors[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([steps[:, :2] * sizes + centres, np.exp(steps[:, 2:]) * sizes], axis=1)
