"""Why a file is no model, in words for whoever gave it; ONNX Runtime's own have paths of this machine in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from imageflow_detect.manifest import ModelInvalid

MAX_MODEL_BYTES: Final = 2 << 30
"""What protobuf, and so an ONNX file, can hold at most; more has its weights in other files."""

_OPSET: Final = re.compile(r"Opset (\d+) is under development.*?till opset (\d+)", re.DOTALL)
_IR: Final = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_OPERATOR: Final = re.compile(r"No Op registered for (\S+)|Fatal error: (\S+?)\(-?\d+\) is not a registered")


def check_size(file: Path) -> None:
    """Raises ModelInvalid for a file that is larger than MAX_MODEL_BYTES."""
    size = file.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise ModelInvalid(
            f"the model's file has {size / 1e9:.1f} GB; at most {MAX_MODEL_BYTES / 1e9:.1f} GB: keep its weights as "
            "external data, in a file beside it"
        )


def why_not_loaded(complaint: str) -> str:
    """What ONNX Runtime's complaint about a file means."""
    if match := _OPSET.search(complaint):
        return f"the model needs opset {match[1]}; ONNX Runtime here has those up to {match[2]}: export with opset=17"
    if match := _IR.search(complaint):
        return f"the model's file has IR version {match[1]}; ONNX Runtime here reads those up to {match[2]}"
    if match := _OPERATOR.search(complaint):
        return f"the model needs the operator {match[1] or match[2]}, which ONNX Runtime here does not have"
    if "External data path does not exist" in complaint:
        return "the model's weights are in another file, which is not beside it"
    if "External data path" in complaint or "external data" in complaint:
        return "the model's weights are in another file, outside the model's folder"
    if "Protobuf parsing failed" in complaint or "No graph was found" in complaint:
        return "the model's file is cut short, or no ONNX model at all"
    return "ONNX Runtime cannot load the model's file"
