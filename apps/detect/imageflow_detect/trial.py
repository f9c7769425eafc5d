"""What a new model makes of a photograph, before it is accepted: numbers that its layout cannot have mean that the
layout is not its own, or that it was exported without its last step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from imageflow_common.errors import ImageFlowError
from imageflow_common.pixels import Pixels
from imageflow_detect.backend import OnnxSession
from imageflow_detect.boxes import Boxes, Floats
from imageflow_detect.decode import Wanted, decode
from imageflow_detect.layouts import candidates
from imageflow_detect.letterbox import letterbox
from imageflow_detect.manifest import Manifest, ModelInvalid, SsdOutput
from imageflow_detect.tensors import Array

_SLACK: Final = 0.01
_CERTAIN: Final = 0.25
_OUTSIDE: Final = 4.0
"""How many times its input's side a network's boxes may lie away from it; what it is sure of never does."""


def try_model(session: OnnxSession, manifest: Manifest, photograph: Pixels) -> Boxes:
    """What it finds there, with the usual thresholds. Raises ModelInvalid for an answer that its layout cannot have."""
    boxed = letterbox(photograph, manifest)
    try:
        answer = session.run(boxed.tensor, input_name=manifest.input.name, output_names=manifest.output_names)
        _check_scores(_scores(answer, manifest), manifest)
        boxes = decode(
            answer,
            manifest=manifest,
            to_pixels=boxed.to_pixels,
            width=photograph.width,
            height=photograph.height,
            wanted=Wanted(),
        )
    except ModelInvalid:
        raise
    except ImageFlowError as exc:
        raise ModelInvalid(f"the model fails on a photograph: {exc.message}") from exc
    _check_places(answer, manifest)
    return boxes


def _scores(answer: Sequence[Array], manifest: Manifest) -> Array:
    """Every number that the layout says is 0…1."""
    match manifest.output.layout:
        case "yolo_v8":
            return answer[0][0, 4:]
        case "yolo_v5":
            return answer[0][0, :, 4:]
        case "end_to_end":
            return answer[0][0, :, 4]
        case _:
            output = manifest.output
            activated = isinstance(output, SsdOutput) and output.activation != "none"
            return np.zeros(1, np.float32) if activated else answer[1][0]


def _check_scores(scores: Array, manifest: Manifest) -> None:
    lowest, highest = float(np.nanmin(scores, initial=0)), float(np.nanmax(scores, initial=0))
    if lowest < -_SLACK or highest > 1 + _SLACK:
        raise ModelInvalid(
            f"on a photograph the model's scores go from {lowest:.3g} to {highest:.3g}; those of "
            f"{manifest.output.layout} are 0 to 1: another layout, or exported before its last sigmoid"
        )


def _check_places(answer: Sequence[Array], manifest: Manifest) -> None:
    corners, side = _places(answer, manifest), max(manifest.input.size.width, manifest.input.size.height)
    if not len(corners):
        return
    if np.abs(corners).max() <= 2.0 and side > 2:
        raise ModelInvalid(
            "on a photograph all the model's boxes lie within two pixels: they are parts of the picture, not pixels of "
            f"the network's input as those of {manifest.output.layout}"
        )
    if np.abs(corners).max() > _OUTSIDE * side:
        raise ModelInvalid(
            f"on a photograph the model's boxes lie as far out as {np.abs(corners).max():.0f} pixels, of {side}: its "
            f"layout is not {manifest.output.layout}"
        )


def _places(answer: Sequence[Array], manifest: Manifest) -> Floats:
    """Corners, in network pixels, of the boxes that the model is fairly sure of."""
    return candidates(answer, manifest, threshold=_CERTAIN).corners
