"""Measures the demo's model as the product runs it: on the validation set in the tree, and on photographs that its
training never saw.

    python tools/evaluate.py            writes models/coins/EVALUATION.md
    python tools/evaluate.py --check    changes nothing, and fails when a figure is off by more than 0.02

Precision and recall are at the default thresholds, 0.5 and 0.4; a detection is right when it overlaps an object that
nothing stronger has taken by at least 0.5. Average precision is COCO's, by its own tool.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage import data

from imageflow_common.images.decode import decode
from imageflow_common.pixels import Pixels
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.detect import Detector, Found, Question
from imageflow_detect.models import ModelRepository
from imageflow_detect.suppress import overlap

ROOT = Path(__file__).resolve().parent.parent
COINS = ROOT / "models" / "coins"
REPORT = COINS / "EVALUATION.md"
MODEL = "coins"
MATCH = 0.5
LEAST_CONFIDENCE = 0.01
MOST_DETECTIONS = 300
TOLERANCE = 0.02
COINLESS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "grass", "gravel", "hubble_deep_field"),
    *("immunohistochemistry", "microaneurysms", "moon", "retina", "rocket", "stereo_motorcycle"),
)
"""scikit-image's photographs without a coin, those that come with it."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture, and the corners (N, 4) of the objects in it, in its pixels."""

    name: str
    pixels: Pixels
    objects: np.ndarray


@dataclass(frozen=True, slots=True)
class Score:
    """`right` of `reported` detections are right, of `objects` objects."""

    title: str
    pictures: int
    objects: int
    reported: int
    right: int
    ap50: float
    ap: float

    @property
    def precision(self) -> float:
        """NaN where there is nothing to be right about, as recall is."""
        return self.right / self.reported if self.objects else float("nan")

    @property
    def recall(self) -> float:
        return self.right / self.objects if self.objects else float("nan")


def validation_set(folder: Path = COINS / "validation") -> list[Labelled]:
    document = json.loads((folder / "annotations.json").read_text())
    return [
        Labelled(
            image["file_name"],
            decode((folder / image["file_name"]).read_bytes()),
            corners([each["bbox"] for each in document["annotations"] if each["image_id"] == image["id"]]),
        )
        for image in document["images"]
    ]


def coins_photograph() -> Labelled:
    """24 coins, whose boxes were drawn by hand before the first training."""
    boxes = json.loads((COINS / "training" / "labels.json").read_text())["boxes"]
    rows = [[box[side] for side in ("x", "y", "width", "height")] for box in boxes]
    return Labelled("coins", photograph("coins"), corners(rows))


def coinless_photographs() -> list[Labelled]:
    return [Labelled(name, photograph(name), corners([])) for name in COINLESS]


def photograph(name: str) -> Pixels:
    loaded = getattr(data, name)()
    array = loaded[0] if isinstance(loaded, tuple) else loaded
    return Pixels(np.ascontiguousarray(array if array.ndim == 3 else array[..., None]))


def corners(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Of boxes x, y, width, height."""
    rows = np.array(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1)


def score(title: str, pictures: Sequence[Labelled], detector: Detector) -> Score:
    """Raises what detection raises."""
    usual = [detector.detect(each.pixels, Question(MODEL)).found for each in pictures]
    question = Question(MODEL, confidence_threshold=LEAST_CONFIDENCE, max_detections=MOST_DETECTIONS)
    everything = [detector.detect(each.pixels, question).found for each in pictures]
    ap50, ap = average_precision(pictures, everything)
    return Score(
        title,
        len(pictures),
        sum(len(each.objects) for each in pictures),
        sum(len(found) for found in usual),
        sum(right(found, each.objects) for found, each in zip(usual, pictures, strict=True)),
        ap50,
        ap,
    )


def right(found: Sequence[Found], objects: np.ndarray) -> int:
    """How many detections, the strongest first, take an object each."""
    if not found or not len(objects):
        return 0
    overlaps = overlap(corners([[f.box.x, f.box.y, f.box.width, f.box.height] for f in found]), objects)
    taken = 0
    for row in overlaps:
        best = int(row.argmax())
        if row[best] >= MATCH:
            taken += 1
            overlaps[:, best] = -1.0
    return taken


def average_precision(pictures: Sequence[Labelled], found: Sequence[Sequence[Found]]) -> tuple[float, float]:
    """COCO's, at an overlap of 0.5, and the mean over 0.5, 0.55, … 0.95. NaN where there is no object."""
    truth, boxes = COCO(), [box for each in pictures for box in each.objects.tolist()]
    if not boxes:
        return float("nan"), float("nan")
    owners = [number for number, each in enumerate(pictures) for _ in each.objects]
    truth.dataset = {
        "images": [{"id": number} for number in range(len(pictures))],
        "annotations": [
            _annotation(number, owner, [x, y, right - x, bottom - y])
            for number, (owner, (x, y, right, bottom)) in enumerate(zip(owners, boxes, strict=True), start=1)
        ],
        "categories": [{"id": 0, "name": "coin"}],
    }
    results = [
        {"image_id": number, "category_id": 0, "bbox": [b.x, b.y, b.width, b.height], "score": each.confidence}
        for number, one in enumerate(found)
        for each in one
        for b in [each.box]
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # the tool prints as it goes
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]
    return float(precision[0].mean()), float(precision.mean())


def _annotation(number: int, owner: int, box: list[float]) -> dict[str, Any]:
    area = box[2] * box[3]
    return {"id": number, "image_id": owner, "category_id": 0, "bbox": box, "area": area, "iscrowd": 0}


def report(scores: Sequence[Score], false: Sequence[tuple[str, Sequence[Found]]]) -> str:
    rows = [_row(each) for each in scores]
    mistakes = [f"| `{name}` | {', '.join(f'{f.confidence:.2f}' for f in found) or '–'} |" for name, found in false]
    return "\n".join(
        [
            "# How good it is",
            "",
            "Written by `make eval`: the model as detect runs it. Precision and recall at confidence 0.5, suppression",
            "at 0.4, match at an overlap of 0.5; AP50, AP: COCO's average precision, at 0.5 and over 0.5 to 0.95.",
            "",
            "| What | Pictures | Coins | Found | False | Precision | Recall | AP50 | AP |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
            "The validation set is drawn as the training's scenes are, of other seeds (`training/validation.py`).",
            "Training saw none of the photographs, which are scikit-image's; one of them has coins.",
            "",
            "What it takes for coins in photographs that have none:",
            "",
            "| Photograph | Scores |",
            "| --- | --- |",
            *mistakes,
            "",
        ]
    )


def _row(score: Score) -> str:
    counts = (score.pictures, score.objects, score.right, score.reported - score.right)
    figures = map(_figure, (score.precision, score.recall, score.ap50, score.ap))
    return f"| {' | '.join([score.title, *map(str, counts), *figures])} |"


def _figure(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def measure() -> str:
    """The report."""
    detector = Detector(ModelRepository(ROOT / "models"), OnnxBackend())
    coins, coinless = coins_photograph(), coinless_photographs()
    scores = [
        score("Validation set", validation_set(), detector),
        score("The photograph of coins", [coins], detector),
        score("Photographs without coins", coinless, detector),
        score("All photographs", [coins, *coinless], detector),
    ]
    false = [(each.name, detector.detect(each.pixels, Question(MODEL)).found) for each in coinless]
    return report(scores, false)


def differences(ours: str, theirs: str) -> list[str]:
    """The lines whose figures differ by more than TOLERANCE, or whose words do."""
    lines = zip(ours.splitlines(), theirs.splitlines(), strict=False)
    return [one for one, other in lines if not _alike(one, other)]


def _alike(one: str, other: str) -> bool:
    number = r"\d+\.\d+"
    figures = [[float(each) for each in re.findall(number, line)] for line in (one, other)]
    words = [re.sub(number, "", line) for line in (one, other)]
    return words[0] == words[1] and len(figures[0]) == len(figures[1]) and np.allclose(*figures, rtol=0, atol=TOLERANCE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    measured = measure()
    if check:
        changed = differences(measured, REPORT.read_text())
        print("\n".join(changed) or "as it is written")
        sys.exit(bool(changed))
    REPORT.write_text(measured)
    print(measured)


if __name__ == "__main__":
    main()
