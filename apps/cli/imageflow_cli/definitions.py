"""Pipelines in files, images in files, and values on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from imageflow_common.errors import InvalidPipeline, Violation

from .exits import UsageFault

Definition: TypeAlias = dict[str, object]
"""A pipeline as JSON, not checked yet."""

_MEDIA_TYPES: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".avif": "image/avif",
}
_OUTPUT_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")


def read_definition(path: Path) -> Definition:
    """Raises UsageFault when there is no such file, and InvalidPipeline when it does not hold a JSON object."""
    data = read_file(path)
    try:
        definition = json.loads(data)
    except json.JSONDecodeError as exc:
        raise InvalidPipeline(f"{path}:{exc.lineno}:{exc.colno}: not JSON: {exc.msg}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidPipeline(f"{path}: not text") from exc
    if not isinstance(definition, dict):
        raise InvalidPipeline(f"{path}: expected a JSON object that is a pipeline")
    return definition


def step_ids(definition: Definition | None) -> list[str]:
    """The steps' ids as they are written, as far as that can be read."""
    steps = (definition or {}).get("steps")
    named = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return [str(step["stepId"]) for step in named if "stepId" in step]


def read_file(path: Path) -> bytes:
    """Raises UsageFault with the reason, in words."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise UsageFault(f"cannot read {path}: {exc.strerror}") from exc


def write_file(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all. Raises UsageFault."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise UsageFault(f"cannot write {path}: {exc.strerror}") from exc


def media_type_of(path: Path) -> str:
    """By the name's ending; `application/octet-stream` when that says nothing: the server looks at the bytes."""
    return _MEDIA_TYPES.get(path.suffix.lower(), "application/octet-stream")


def format_of(path: Path) -> str:
    """The output format that a file's name asks for; empty, without an ending: the server's choice. Raises UsageFault
    for an ending that is no output format's."""
    suffix = path.suffix.lower()
    if suffix and suffix not in _OUTPUT_SUFFIXES:
        endings = ", ".join(_OUTPUT_SUFFIXES)
        raise UsageFault(
            f"cannot write {path}: no format has the ending {suffix}; there are {endings}, or say --format"
        )
    return _MEDIA_TYPES[suffix] if suffix else ""


def typed(settings: Mapping[str, str]) -> dict[str, object]:
    """Values as JSON where they are JSON: `400` is a number, `gaussian` a text."""
    return {name: _typed(value) for name, value in settings.items()}


def _typed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def read_settings(settings: Sequence[str], *, dotted: bool = True) -> dict[str, str]:
    """`step.parameter=value`, or `parameter=value`, by name. Raises InvalidPipeline with every one that is not so."""
    values: dict[str, str] = {}
    violations: list[Violation] = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        step, dot, parameter = name.partition(".")
        if not equals or not name or (dotted and not (step and dot and parameter)):
            form = "STEP.PARAMETER=VALUE" if dotted else "PARAMETER=VALUE"
            violations.append(Violation(setting, f"expected {form}"))
        elif name in values:
            violations.append(Violation(name, "set twice"))
        else:
            values[name] = value
    if violations:
        raise InvalidPipeline("--set cannot be read", violations=violations)
    return values
