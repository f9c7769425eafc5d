"""Which layout a model answers in, from the shapes of its outputs and the number of its labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from imageflow_common.errors import Violation
from imageflow_detect.manifest import LAYOUTS, ModelInvalid, Size, SsdOutput, YoloOutput
from imageflow_detect.tensors import Shape, TensorInfo, shown

ACCEPTED: Final = (
    "accepted are detection exports with one image as input and, for C classes, as output [N, 4 + C, anchors] "
    "(YOLOv8, YOLO11), [N, anchors, 5 + C] (YOLOv5, YOLOv7), [N, rows, 6] (YOLOv10, YOLO26, suppression inside), or "
    "boxes [N, anchors, 4], class logits [N, anchors, C + 1] and anchors [anchors, 4] (SSD)"
)
_STRIDES: Final = ((8, 16, 32), (8, 16, 32, 64))


@dataclass(frozen=True, slots=True)
class Guess:
    """How the outputs are read, and why, for people."""

    output: YoloOutput | SsdOutput
    why: str


def guess_layout(outputs: Sequence[TensorInfo], *, labels: int, size: Size) -> Guess:
    """Raises ModelInvalid for outputs that fit no layout; the text says what they look like."""
    odd = next((each for each in outputs if each.type != "tensor(float)"), None)
    if odd is not None:
        raise refused(f"its output '{odd.name}' is not float32", outputs)
    if any(len(each.shape) == 4 for each in outputs) and len(outputs) > 1:
        raise refused("it looks like a segmentation export (boxes and mask prototypes)", outputs)
    if len(outputs) == 1:
        return _guess_yolo(outputs[0], labels=labels, size=size)
    if len(outputs) == 3:
        return _guess_ssd(outputs, labels=labels)
    if len(outputs) == 2 and all(len(each.shape) == 3 for each in outputs) and _boxes_among(outputs):
        raise refused("it looks like DETR (boxes and logits for each query), or SSD without its anchors", outputs)
    raise refused(f"it has {len(outputs)} outputs", outputs)


def as_told(layout: str, outputs: Sequence[TensorInfo], *, labels: int) -> YoloOutput | SsdOutput:
    """The output of a layout that somebody names. Raises ModelInvalid when there are not the outputs for it."""
    if layout not in LAYOUTS:
        raise ModelInvalid(f"no layout {layout!r}; there are: {', '.join(LAYOUTS)}")
    if layout == "ssd":
        return _guess_ssd(outputs, labels=labels).output
    if len(outputs) != 1:
        raise refused(f"{layout} is one output, and it has {len(outputs)}", outputs)
    return YoloOutput.model_validate({"layout": layout, "name": outputs[0].name})


def refused(what: str, tensors: Sequence[TensorInfo], violations: Sequence[Violation] = ()) -> ModelInvalid:
    """The error for a model that cannot be read, saying what was seen and what would do."""
    seen = ", ".join(f"'{each.name}' {each.type} {shown(each.shape)}" for each in tensors)
    return ModelInvalid(f"this model cannot be used: {what}; seen: {seen}; {ACCEPTED}", violations=violations)


def _guess_yolo(output: TensorInfo, *, labels: int, size: Size) -> Guess:
    if len(output.shape) == 2:
        raise refused("it looks like a classifier", [output])
    if len(output.shape) != 3:
        raise refused("its output has not three dimensions", [output])
    rows, columns = output.shape[1:]
    seen = f"'{output.name}' is {shown(output.shape)}"
    if columns == 6 and rows != 4 + labels and not _are_anchors_of_one_class(rows, labels, size):
        return Guess(YoloOutput(layout="end_to_end", name=output.name), f"{seen}: rows of corners, score, class")
    if rows == 4 + labels:
        why = f"{seen}: 4 + {labels} classes, {_count(columns)} anchors"
        return Guess(YoloOutput(layout="yolo_v8", name=output.name), why)
    if columns == 5 + labels:
        why = f"{seen}: {_count(rows)} anchors, 4 + 1 + {labels} classes"
        return Guess(YoloOutput(layout="yolo_v5", name=output.name), why)
    raise _misfit(output, labels)


def _are_anchors_of_one_class(rows: int | None, labels: int, size: Size) -> bool:
    """Whether [N, rows, 6] is YOLOv5 with one class: three anchors for each cell of its grids, or an open number."""
    if labels != 1:
        return False
    grids = [sum(3 * (size.width // s) * (size.height // s) for s in strides) for strides in _STRIDES]
    return rows in grids


def _misfit(output: TensorInfo, labels: int) -> ModelInvalid:
    rows, columns = output.shape[1:]
    if rows is None or columns is None:
        return refused(f"its output fits no layout with {labels} classes", [output])
    if rows > columns:
        if columns == 4 + labels:
            return refused("its output is transposed, or that of RT-DETR", [output])
        expected, kind = columns - 5, "as YOLOv5"
    else:
        expected, kind = rows - 4, "as YOLOv8"
    if rows == 5 + labels < columns:
        return refused(
            f"it looks like oriented boxes (an angle for each box), or has {expected} classes where {labels} labels "
            "were given",
            [output],
            [Violation("labels", f"{expected} expected, {labels} given")],
        )
    if expected < 1:
        return refused(f"its output fits no layout with {labels} classes", [output])
    return refused(
        f"read {kind}, that is {expected} classes, but {labels} labels were given; a pose, oriented-box or "
        "segmentation export has further numbers",
        [output],
        [Violation("labels", f"{expected} expected, {labels} given")],
    )


def _guess_ssd(outputs: Sequence[TensorInfo], *, labels: int) -> Guess:
    anchors = _only(outputs, _is_anchors)
    rest = [each for each in outputs if each is not anchors]
    shaped = [each for each in rest if _is_boxes(each.shape)]
    boxes = _only(shaped, lambda each: True) or _only(shaped, lambda each: "box" in each.name.lower())
    scores = _only(
        [each for each in rest if each is not boxes],
        lambda each: len(each.shape) == 3 and each.shape[2] in (labels, labels + 1),
    )
    if len(outputs) != 3 or anchors is None or boxes is None or scores is None:
        raise refused(f"its outputs are not boxes, logits of {labels} classes, and anchors, as those of SSD", outputs)
    background = scores.shape[2] == labels + 1
    output = SsdOutput(layout="ssd", boxes=boxes.name, scores=scores.name, anchors=anchors.name, background=background)
    why = (
        f"'{boxes.name}' {shown(boxes.shape)} and '{anchors.name}' {shown(anchors.shape)} are boxes and anchors, "
        f"'{scores.name}' {shown(scores.shape)} {labels} classes{' and none of them' if background else ''}"
    )
    return Guess(output, why)


def _boxes_among(outputs: Sequence[TensorInfo]) -> bool:
    return any(_is_boxes(each.shape) for each in outputs)


def _is_anchors(output: TensorInfo) -> bool:
    return (len(output.shape) == 2 and output.shape[1] == 4) or "anchor" in output.name.lower()


def _is_boxes(shape: Shape) -> bool:
    return len(shape) == 3 and shape[2] == 4


def _count(number: int | None) -> str:
    return "any number of" if number is None else f"{number:,}"


def _only(among: Sequence[TensorInfo], fits: Callable[[TensorInfo], bool]) -> TensorInfo | None:
    """The one that fits; None when none or several do."""
    found = [each for each in among if fits(each)]
    return found[0] if len(found) == 1 else None
