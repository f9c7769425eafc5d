"""Writes the generated parts of the documentation: parameters from the descriptors, settings from their classes,
filters from the catalogue. Each part stands between two comments; what is around them is written by hand.

`python tools/docs.py` writes them; `--check` changes nothing, and fails when one is out of date.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from pydantic_core import PydanticUndefined

from imageflow.v1.component_pb2 import DescribeResponse
from imageflow_common.component import Component
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.schema import Parameter
from imageflow_common.settings import ComponentSettings, ServerSettings, variable
from imageflow_detect.app import DetectSettings, build
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.detect import Detector
from imageflow_detect.models import ModelRepository
from imageflow_filter.app import filter_pixels
from imageflow_filter.filters import FILTERS
from imageflow_orchestrator.settings import OrchestratorSettings
from imageflow_resize.app import resize

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- generated: {} (make docs) -->", "<!-- end -->"

Settings = type[ServerSettings]


def components() -> dict[str, tuple[Component, Settings]]:
    """The components of this tree, each with the class of its settings."""
    detect = build(Detector(ModelRepository(ROOT / "models"), OnnxBackend()))
    return {
        "resize": (resize, ComponentSettings),
        "detect": (detect, DetectSettings),
        "filter": (filter_pixels, ComponentSettings),
    }


def parts() -> dict[str, dict[str, str]]:
    """Every generated part: by file, then by name."""
    written = {"README.md": {"settings": settings_tables()}}
    for name, (component, settings) in components().items():
        part = {"component": component_text(component, settings)}
        if name == "filter":
            part["filters"] = filter_table()
        written[f"docs/components/{name}.md"] = part
    return written


def component_text(component: Component, settings: Settings) -> str:
    """What a component is, what it takes and what it answers."""
    parameters = component.schema.parameters.values()
    message = component.metadata_descriptor
    return "\n\n".join(
        [
            facts(component, settings),
            f"## Parameters\n\n{parameter_table(parameters)}",
            f"As a step, with every default:\n\n```json\n{example(component)}\n```",
            f"## Metadata\n\n{comment(component, message.full_name)}\n\n{metadata_tables(component, message)}",
        ]
    )


def facts(component: Component, settings: Settings) -> str:
    fields = settings.model_fields
    rows = [
        ("Version", component.version),
        ("Service", f"`{component.service_name}`, method `Process`"),
        ("Image inputs", ", ".join(f"`{slot.name}`{' (optional)' * slot.optional}" for slot in component.slots)),
        ("Answers", effect(component)),
        ("Requests in flight", f"at most {fields['max_in_flight'].default}"),
        ("Time for one request", f"at most {fields['timeout_seconds'].default:g} s"),
    ]
    return table(["", ""], rows)


def effect(component: Component) -> str:
    match component.effect:
        case DescribeResponse.LOOKS:
            return "no image: it only looks"
        case DescribeResponse.WHEN_PARAMETER:
            return f"an image when `{component.effect_parameter}` is true; else it only looks"
        case _:
            return "an image"


def parameter_table(parameters: Iterable[Parameter]) -> str:
    rows = [
        (f"`{p.name}`", f"list of {p.type}" if p.repeated else p.type, allowed(p), default(p), p.unit, p.description)
        for p in parameters
    ]
    return table(["Name", "Type", "Allowed", "Default", "Unit", "Meaning"], rows)


def allowed(parameter: Parameter) -> str:
    if parameter.allowed_values:
        return ", ".join(f"`{value}`" for value in parameter.allowed_values)
    if parameter.minimum is not None and parameter.maximum is not None:
        return f"{parameter.minimum:g} to {parameter.maximum:g}"
    if parameter.type == "string":
        items = f"at most {parameter.max_items:,}, each " if parameter.repeated else ""
        return f"{items}at most {parameter.max_length_bytes:,} bytes"
    return "`true`, `false`" if parameter.type == "boolean" else ""


def default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None:
        return "empty" if parameter.repeated else "none"
    return f"`{json.dumps(parameter.default)}`"


def example(component: Component) -> str:
    values = {p.name: p.default for p in component.schema.parameters.values() if p.default is not None}
    step = {"stepId": component.name, "componentName": component.name, "parameters": values}
    return json.dumps(step, indent=2)


def metadata_tables(component: Component, message: Descriptor) -> str:
    """The message's fields, then those of each message in it."""
    rows = [(f"`{f.json_name}`", field_type(f), comment(component, f.full_name)) for f in message.fields]
    texts = [table(["Name", "Type", "Meaning"], rows)]
    for inner in {f.message_type.name: f.message_type for f in message.fields if f.message_type}.values():
        texts.append(f"### {inner.name}\n\n{comment(component, inner.full_name)}")
        texts.append(metadata_tables(component, inner))
    return "\n\n".join(texts)


def field_type(field: FieldDescriptor) -> str:
    kinds = {FieldDescriptor.TYPE_STRING: "string", FieldDescriptor.TYPE_BOOL: "boolean"}
    name = field.message_type.name if field.message_type else kinds.get(field.type, "number")
    return f"list of {name}" if field.is_repeated else name


def comment(component: Component, full_name: str) -> str:
    return component.descriptors.comments.get(full_name, "")


def filter_table() -> str:
    rows = [
        (f"`{f.name}`", f.summary, f"{f.minimum:g} to {f.maximum:g}", f.intensity_meaning) for f in FILTERS.values()
    ]
    return table(["`filterType`", "What it does", "`filterIntensity`", "What one means"], rows)


def settings_tables() -> str:
    """Every variable that a service reads through its settings."""
    detect = [*vars(DetectSettings)["__annotations__"]]
    sections = [
        ("Every service", settings_table(ServerSettings, own_fields(ServerSettings))),
        ("The orchestrator", settings_table(OrchestratorSettings, own_fields(OrchestratorSettings))),
        ("Kafka", settings_table(KafkaSettings, own_fields(KafkaSettings))),
        ("Every component", settings_table(ComponentSettings, own_fields(ComponentSettings))),
        ("detect, where it differs", settings_table(DetectSettings, detect)),
    ]
    return "\n\n".join(f"**{title}**\n\n{text}" for title, text in sections)


def own_fields(settings: Settings) -> list[str]:
    return [name for name in vars(settings)["__annotations__"] if name in settings.model_fields]


def settings_table(settings: Settings, names: Iterable[str]) -> str:
    said = docstrings(settings)
    rows = [
        (f"`{variable(settings, name)}`", setting_default(settings, name), said[name] + live_mark(settings, name))
        for name in names
    ]
    return table(["Variable", "Default", "What it is"], rows)


def live_mark(settings: Settings, name: str) -> str:
    return " *Live.*" if issubclass(settings, ServerSettings) and name in settings.LIVE else ""


def setting_default(settings: Settings, name: str) -> str:
    field = settings.model_fields[name]
    if field.default is None or not (str(field.default) or field.default is False):
        return "unset"
    if field.default is PydanticUndefined:
        return "its cores" if name == "max_running" else "by its memory"
    number = field.default
    if isinstance(number, int) and number >= 1 << 20 and number % (1 << 20) == 0:
        return f"`{number}` ({number >> 20:,} MiB)"
    return f"`{number:g}`" if isinstance(number, float) else f"`{number}`"


def docstrings(settings: Settings) -> dict[str, str]:
    """The text under each field, of the class and of those before it; where there is none, the values allowed."""
    texts = {name: _choices(field.annotation) for name, field in settings.model_fields.items()}
    for kind in reversed(settings.__mro__):
        if kind.__module__.startswith("imageflow"):
            texts.update(_texts_under_fields(kind))
    return texts


def _texts_under_fields(kind: type) -> Iterator[tuple[str, str]]:
    (parsed,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(parsed, ast.ClassDef)
    for field, text in zip(parsed.body, parsed.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                yield name, " ".join(said.split())


def _choices(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(annotation))
    return ""


def table(head: list[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(re.sub(r" +", " ", f"| {' | '.join(line)} |") for line in lines)


def replaced(text: str, name: str, part: str) -> str:
    """The file's text with that part. Raises ValueError where its two comments are not there."""
    begin = BEGIN.format(name)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"no {begin} … {END}")
    return f"{before}{begin}\n\n{part}\n\n{END}{after}"


def outdated(each: Callable[[Path, str], None]) -> list[str]:
    """The files whose generated parts are not what they should be; `each` is told the path and the new text."""
    found = []
    for name, written in parts().items():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        new = text
        for part, content in written.items():
            new = replaced(new, part, content)
        if new != text:
            found.append(name)
            each(path, new)
    return found


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a part is out of date")
    if not parser.parse_args().check:
        for name in outdated(_write):
            print(f"wrote {name}")
    elif found := outdated(lambda _path, _text: None):
        sys.exit(f"out of date, run `make docs`: {', '.join(found)}")


if __name__ == "__main__":
    main()
