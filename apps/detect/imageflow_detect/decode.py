"""From what a network answers to boxes in the picture: read (layouts.py), map, suppress (suppress.py), clip.

As the models' authors do, boxes are suppressed before they are clipped to the picture: the part of a box that lies
outside counts when two boxes are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from imageflow_common.errors import InvalidParameters, Violation
from imageflow_common.pixels import Affine
from imageflow_detect.boxes import Boxes, clip, have_sides
from imageflow_detect.layouts import candidates
from imageflow_detect.manifest import Manifest
from imageflow_detect.suppress import suppress
from imageflow_detect.tensors import Array

_MOST_LABELS_IN_A_MESSAGE: Final = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which boxes are reported.

    A box scores at least `confidence_threshold`, is of `class_ids` (empty: of any), and has no side shorter than
    `min_box_size` pixels of the picture. Of two of a class (`class_agnostic`: of any two) that overlap by more than
    `nms_threshold`, intersection over union, only the stronger; but a model with suppression inside decides that
    itself. At most `max_detections`, the strongest.
    """

    confidence_threshold: float = 0.5
    nms_threshold: float = 0.4
    max_detections: int = 300
    class_ids: frozenset[int] = frozenset()
    class_agnostic: bool = False
    min_box_size: float = 0.0


def decode(
    answer: Sequence[Array], *, manifest: Manifest, to_pixels: Affine, width: int, height: int, wanted: Wanted
) -> Boxes:
    """The wanted boxes in the pixels of a width×height picture, clipped to it. A box with nothing inside the picture
    is none. Raises as `layouts.candidates` does."""
    found = candidates(answer, manifest, threshold=wanted.confidence_threshold, class_ids=wanted.class_ids)
    mapped = found.mapped(to_pixels)
    clipped = mapped.at(clip(mapped.corners, width=width, height=height))
    inside = have_sides(clipped.corners, wanted.min_box_size)
    mapped, clipped = mapped.take(inside), clipped.take(inside)
    if manifest.output.layout == "end_to_end":
        return clipped.take(slice(wanted.max_detections))
    kept = suppress(mapped, wanted.nms_threshold, at_most=wanted.max_detections, class_agnostic=wanted.class_agnostic)
    return clipped.take(kept)


def class_ids_of(classes: Sequence[str], labels: Sequence[str]) -> frozenset[int]:
    """The ids of classes given by label or, where no label reads so, by id.

    Raises InvalidParameters with every unknown class; the text names the labels there are.
    """
    ids = {label: number for number, label in enumerate(labels)}
    found = [ids.get(name, _as_id(name, len(labels))) for name in classes]
    unknown = [number for number, class_id in enumerate(found) if class_id is None]
    if unknown:
        named = ", ".join(repr(classes[number][:128]) for number in unknown)
        raise InvalidParameters(
            f"the model has no class {named}; its labels are: {_listed(labels)}",
            violations=[Violation(f"classes[{number}]", "not a class of the model") for number in unknown],
        )
    return frozenset(class_id for class_id in found if class_id is not None)


def _as_id(text: str, classes: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        return None
    return int(text) if int(text) < classes else None


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - _MOST_LABELS_IN_A_MESSAGE
    return ", ".join(labels[:_MOST_LABELS_IN_A_MESSAGE]) + (f" and {more} more" if more > 0 else "")
