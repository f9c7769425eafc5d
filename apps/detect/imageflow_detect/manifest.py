"""What a model expects and answers: `manifest.yaml` beside Triton's `config.pbtxt`, typed and checked.

    version: 1                        of this format, not of the model
    name: coins
    task: detection
    labels: [coin]
    input:
      name: images
      type: float32                   or uint8, for a network that normalises for itself
      size: {width: 320, height: 320}
      layout: nchw
      fit: letterbox                  or stretch, which does not keep the aspect ratio
      colour_order: rgb
      normalisation: {scale: 1/255, mean: [0, 0, 0], std: [1, 1, 1]}
      letterbox_colour: [114, 114, 114]
    output: {layout: yolo_v8, name: output0}
    licence: Apache-2.0
    source: where the model came from

A network sees `(value * scale - mean) / std` per channel, in `colour_order`, where value is 0…255. Everything
but name, labels, size, licence and source has the default shown here. What a network answers, `output`, is one of
the layouts of YoloOutput and SsdOutput.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from imageflow_common.errors import FailedPrecondition, Violation

NAME_PATTERN: Final = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
MAX_SIDE: Final = 8192
MAX_LABELS: Final = 100_000
MAX_MANIFEST_BYTES: Final = 8 << 20


Numbers = TypeVar("Numbers", bound=tuple[float, ...])


class ModelInvalid(FailedPrecondition):
    """A model whose manifest or file cannot be used; `violations` holds every fault that was found."""

    reason = "MODEL_INVALID"


def _number(value: object) -> object:
    """A fraction such as `1/255` as a float; anything else untouched."""
    if not isinstance(value, str):
        return value
    try:
        return float(Fraction(value.replace(" ", "")))
    except (ValueError, ZeroDivisionError):
        return value


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    doubled = sorted({label for label in labels if labels.count(label) > 1}) if len(set(labels)) < len(labels) else []
    if doubled:
        raise ValueError(f"each label once; more often: {', '.join(doubled)}")
    return labels


def _positive(values: Numbers) -> Numbers:
    if min(values) <= 0:
        raise ValueError("every value must be greater than 0")
    return values


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Triple = tuple[Number, Number, Number]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Label = Annotated[str, Field(min_length=1, max_length=128)]
Level = Annotated[int, Field(ge=0, le=255)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Size(_Part):
    """In pixels."""

    width: Side
    height: Side


class Normalisation(_Part):
    """`(value * scale - mean) / std`, value 0…255; mean and std per channel in the model's colour order."""

    scale: Annotated[Number, Field(gt=0)] = 1 / 255
    mean: Triple = (0.0, 0.0, 0.0)
    std: Annotated[Triple, AfterValidator(_positive)] = (1.0, 1.0, 1.0)


class InputSpec(_Part):
    """The input tensor, `[N, 3, height, width]`, and how a picture becomes one. `letterbox_colour` is what
    surrounds the picture, and what shows through it: red, green, blue, 0…255."""

    name: Text = "images"
    type: Literal["float32", "uint8"] = "float32"
    size: Size
    layout: Literal["nchw"] = "nchw"
    fit: Literal["letterbox", "stretch"] = "letterbox"
    colour_order: Literal["rgb", "bgr"] = "rgb"
    normalisation: Normalisation = Normalisation()
    letterbox_colour: tuple[Level, Level, Level] = (114, 114, 114)

    @model_validator(mode="after")
    def _bytes_are_as_they_are(self) -> Self:
        if self.type == "uint8" and self.normalisation != Normalisation():
            raise ValueError("uint8 goes in as it is: leave out normalisation")
        return self


class YoloOutput(_Part):
    """One float32 output.

    `yolo_v8` `[N, 4 + classes, anchors]`, what YOLOv8 and YOLO11 answer: centre x, centre y, width, height in
    network pixels, then a score 0…1 per class.
    `yolo_v5` `[N, anchors, 5 + classes]`, what YOLOv5 and YOLOv7 answer: the same four, then how sure it is that there
    is an object, then that of each class given there is one; the score of a class is the product.
    `end_to_end` `[N, rows, 6]`, what YOLOv10, YOLO26 and other exports with suppression inside answer: left, top,
    right, bottom in network pixels, score, class.
    """

    layout: Literal["yolo_v8", "yolo_v5", "end_to_end"] = "yolo_v8"
    name: Text = "output0"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)


class SsdOutput(_Part):
    """Three float32 outputs, all named: `anchors` `[anchors, 4]` or `[N, anchors, 4]`, the centre, height and width of
    each as parts 0…1 of the network's input; `boxes` `[N, anchors, 4]`, what to change in them; `scores`
    `[N, anchors, classes]`, before `activation`.

    With `order` yxhw and scales s: y = b₀/s₀·h + y, x = b₁/s₁·w + x, height = exp(b₂/s₂)·h, width = exp(b₃/s₃)·w, as in
    SSD (Liu et al., "SSD: Single Shot MultiBox Detector", 2016, equation 2). `background`: class 0 is none of the
    labels. `order` is that of anchors too.
    """

    layout: Literal["ssd"]
    boxes: Text = "boxes"
    scores: Text = "scores"
    anchors: Text = "anchors"
    order: Literal["yxhw", "xywh"] = "yxhw"
    scales: Annotated[tuple[Number, Number, Number, Number], AfterValidator(_positive)] = (10.0, 10.0, 5.0, 5.0)
    activation: Literal["sigmoid", "softmax", "none"] = "sigmoid"
    background: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        return self.boxes, self.scores, self.anchors


OutputSpec = Annotated[YoloOutput | SsdOutput, Field(discriminator="layout")]
YOLO_LAYOUTS: Final = ("yolo_v8", "yolo_v5", "end_to_end")
LAYOUTS: Final = (*YOLO_LAYOUTS, "ssd")


class Manifest(_Part):
    """Everything that the files themselves do not say. `trained_by` is for people."""

    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
    task: Literal["detection"] = "detection"
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=MAX_LABELS), AfterValidator(_distinct)]
    input: InputSpec
    output: OutputSpec = YoloOutput()
    licence: Text
    source: Text
    trained_by: Text | None = None

    @classmethod
    def parse(cls, text: str, *, name: str) -> Self:
        """The manifest in this YAML, which must be that of `name`. Raises ModelInvalid with every fault."""
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as exc:
            raise _invalid(name, [Violation("", _where(exc))]) from exc
        try:
            manifest = cls.model_validate(document)
        except ValidationError as exc:
            raise _invalid(name, [_violation(error) for error in exc.errors()]) from exc
        if manifest.name != name:
            raise _invalid(name, [Violation("name", f"is '{manifest.name}', but its folder is '{name}'")])
        return manifest

    def to_yaml(self) -> str:
        """YAML that `parse` reads back to an equal manifest."""
        return yaml.safe_dump(
            self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True, width=110
        )

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """One image: 1, 3, height, width."""
        return 1, 3, self.input.size.height, self.input.size.width

    @property
    def output_names(self) -> tuple[str, ...]:
        """What a backend is to answer, in the order in which the layout is read."""
        return self.output.names


def _invalid(name: str, violations: Sequence[Violation]) -> ModelInvalid:
    faults = "; ".join(
        f"{fault.field}: {fault.description}" if fault.field else fault.description for fault in violations
    )
    return ModelInvalid(f"the manifest of model '{name}' is not valid: {faults}", violations=violations)


def _violation(error: Any) -> Violation:
    return Violation(".".join(str(part) for part in error["loc"]), error["msg"])


def _where(exc: yaml.YAMLError) -> str:
    mark = getattr(exc, "problem_mark", None)
    problem = getattr(exc, "problem", None) or "cannot be read"
    return f"not YAML: {problem}" + (f" in line {mark.line + 1}" if mark else "")
