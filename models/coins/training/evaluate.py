"""Measures the coin detector on photographs it was not trained on; plain numpy around ONNX Runtime.

    python models/coins/training/evaluate.py [--model PATH]

The letterbox and the suppression here are the reference for whoever runs the model elsewhere.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from skimage import data

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "1" / "model.onnx"
LABELS = HERE / "labels.json"
LETTERBOX_LEVEL = 114
CONFIDENCE = 0.5
NMS_IOU = 0.4
MATCH_IOU = 0.5
TIMED_RUNS = 200

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fit:
    """How a picture was laid into the network's square: input = picture * scale + (left, top)."""

    scale: float
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class Detections:
    """`boxes`: float32 [N, 4] as x, y, width, height in picture pixels. `scores`: float32 [N], falling."""

    boxes: Floats
    scores: Floats


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of one picture against its labels."""

    found: int
    predicted: int
    labelled: int
    mean_iou: float

    @property
    def precision(self) -> float:
        return self.found / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.found / self.labelled


def letterbox(picture: Pixels, size: int) -> tuple[Floats, Fit]:
    """Fits a uint8 [H, W] or [H, W, 3] RGB picture, centred, into a float32 [1, 3, size, size] in 0..1."""
    rgb = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
    height, width = rgb.shape[:2]
    scale = min(size / height, size / width)
    inner_height, inner_width = max(1, round(height * scale)), max(1, round(width * scale))
    fit = Fit(scale, (size - inner_width) // 2, (size - inner_height) // 2)

    square = np.full((size, size, 3), LETTERBOX_LEVEL, np.float32)
    rows, columns = slice(fit.top, fit.top + inner_height), slice(fit.left, fit.left + inner_width)
    square[rows, columns] = resized(rgb, inner_height, inner_width)
    return (square / np.float32(255)).transpose(2, 0, 1)[None], fit


def resized(picture: Pixels, height: int, width: int) -> Floats:
    """Bilinear resize; when it shrinks, the triangle widens with the step, so that nothing aliases."""
    rows = np.einsum("oi,iwc->owc", _triangle_weights(picture.shape[0], height), picture.astype(np.float32))
    both: Floats = np.einsum("oi,hic->hoc", _triangle_weights(picture.shape[1], width), rows)
    return both


def _triangle_weights(source: int, target: int) -> Floats:
    """[target, source] matrix of one axis' resampling weights; pixel centres lie at half integers."""
    step = source / target
    reach = max(step, 1.0)
    centres = (np.arange(target) + 0.5) * step - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(source) - centres[:, None]) / reach)
    normalised: Floats = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return normalised


def decoded(output: Floats, fit: Fit, *, confidence: float) -> Detections:
    """Reads one image's [5, A] output (cx, cy, w, h, score); boxes are in picture pixels, unsuppressed."""
    kept = output[:, output[4] >= confidence]
    kept = kept[:, np.argsort(-kept[4], kind="stable")]
    centre_x, centre_y, width, height, scores = kept
    left = (centre_x - width / 2 - fit.left) / fit.scale
    top = (centre_y - height / 2 - fit.top) / fit.scale
    return Detections(np.stack([left, top, width / fit.scale, height / fit.scale], 1), scores)


def suppressed(detections: Detections, *, iou: float) -> Detections:
    """Greedy non-maximum suppression: drops a box that overlaps a higher-scored kept one by over `iou`."""
    overlaps = iou_matrix(detections.boxes, detections.boxes)
    kept: list[int] = []
    for index in range(len(detections.scores)):
        if all(overlaps[index, other] <= iou for other in kept):
            kept.append(index)
    return Detections(detections.boxes[kept], detections.scores[kept])


def iou_matrix(a: Floats, b: Floats) -> Floats:
    """Intersection over union of every box of a with every box of b; boxes are x, y, width, height."""
    near = np.maximum(a[:, None, :2], b[None, :, :2])
    far = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.prod(np.maximum(far - near, 0), axis=2)
    union = np.prod(a[:, 2:], axis=1)[:, None] + np.prod(b[:, 2:], axis=1)[None] - shared
    ratio: Floats = shared / union
    return ratio


def judged(detections: Detections, labels: Floats, *, iou: float) -> Verdict:
    """Matches detections to labels one to one, best score first."""
    overlaps = iou_matrix(detections.boxes, labels)
    matched: list[float] = []
    for row in overlaps:
        best = int(row.argmax())
        if row[best] < iou:
            continue
        matched.append(float(row[best]))
        overlaps[:, best] = -1.0
    mean_iou = float(np.mean(matched)) if matched else 0.0
    return Verdict(len(matched), len(detections.scores), len(labels), mean_iou)


class CoinDetector:
    """The model on one thread of ONNX Runtime."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.size = int(self._session.get_inputs()[0].shape[-1])

    def infer(self, images: Floats) -> Floats:
        """float32 [N, 3, S, S] -> float32 [N, 5, A]."""
        output: Floats = self._session.run(["output0"], {"images": images})[0]
        return output

    def detect(self, picture: Pixels, *, confidence: float = CONFIDENCE) -> Detections:
        images, fit = letterbox(picture, self.size)
        return suppressed(decoded(self.infer(images)[0], fit, confidence=confidence), iou=NMS_IOU)


@dataclass(frozen=True, slots=True)
class View:
    """One rendering of the labelled photograph: picture = photograph * scale + (left, top)."""

    name: str
    picture: Pixels
    scale: float = 1.0
    left: int = 0
    top: int = 0

    def place(self, labels: Floats) -> Floats:
        """The photograph's labels in this view's pixels."""
        return labels * np.float32(self.scale) + np.array([self.left, self.top, 0, 0], np.float32)


def views(photograph: Pixels) -> list[View]:
    """The photograph as the pipeline may hand it to the detector."""
    height, width = photograph.shape[:2]
    fit = 1080 / height
    fitted = _scaled(photograph, fit)
    margin = (1920 - fitted.shape[1]) // 2
    canvas = np.zeros((1080, 1920), np.uint8)
    canvas[:, margin : margin + fitted.shape[1]] = fitted
    return [
        View("native", photograph),
        View("half", _scaled(photograph, 0.5), 0.5),
        View("800 wide", _scaled(photograph, 800 / width), 800 / width),
        View("2x", _scaled(photograph, 2), 2),
        View("4x", _scaled(photograph, 4), 4),
        View("fitted in 1920x1080", fitted, fit),
        View("on a black 1920x1080 canvas", canvas, fit, margin),
        View("JPEG quality 80", _jpeg(photograph, 80)),
        View("2x, JPEG quality 80", _jpeg(_scaled(photograph, 2), 80), 2),
    ]


def _scaled(picture: Pixels, scale: float) -> Pixels:
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _jpeg(picture: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


COINLESS: dict[str, Callable[[], Pixels]] = {
    "astronaut": data.astronaut,
    "coffee": data.coffee,
    "chelsea": data.chelsea,
}


def read_labels(path: Path = LABELS) -> Floats:
    """The hand-drawn boxes, float32 [N, 4]: x, y, width, height in photograph pixels."""
    boxes = json.loads(path.read_text())["boxes"]
    return np.array([[box[side] for side in ("x", "y", "width", "height")] for box in boxes], np.float32)


def median_milliseconds(detector: CoinDetector) -> float:
    """The median time of one inference, letterboxing and suppression apart."""
    images = letterbox(data.coins(), detector.size)[0]
    times = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        detector.infer(images)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the coin detector.")
    parser.add_argument("--model", type=Path, default=MODEL)
    detector = CoinDetector(parser.parse_args().model)
    labels = read_labels()
    for view in views(data.coins()):
        verdict = judged(detector.detect(view.picture), view.place(labels), iou=MATCH_IOU)
        print(
            f"coins, {view.name:28} precision {verdict.precision:.3f}  recall {verdict.recall:.3f}  "
            f"({verdict.found} of {verdict.labelled} found, {verdict.predicted} predicted, "
            f"mean IoU {verdict.mean_iou:.3f})"
        )
    for name, picture in COINLESS.items():
        print(f"{name:9} {len(detector.detect(picture()).scores)} coins")
    print(f"inference {median_milliseconds(detector):.1f} ms on one thread (median of {TIMED_RUNS})")


if __name__ == "__main__":
    main()
