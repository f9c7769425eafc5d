"""`imageflow components`: what there is, and what each takes."""

from __future__ import annotations

import json
from typing import Any

import click

from imageflow_cli.options import json_option, url_option
from imageflow_cli.output import Output


@click.command()
@click.argument("name", required=False)
@url_option
@json_option
def components(name: str | None, url: str, out: Output) -> None:
    """List the components, or show the parameters of component NAME."""
    from imageflow_cli.blocking import ask, ask_all
    from imageflow_cli.output import message_json

    if name is None:
        found = [message_json(each) for each in ask_all(url, lambda client: client.list_components())]
        out.data(found)
        out.table(["component", "versions", "reachable", "does"], [_summary(each) for each in found])
        return
    component = message_json(ask(url, lambda client: client.get_component(name)))
    out.data(component)
    _show(out, component)


def _summary(component: dict[str, Any]) -> list[str]:
    names = ", ".join([component["name"], *component["aliases"]])
    reachable = "yes" if component["available"] else "no"
    return [names, ", ".join(component["versions"]), reachable, component["summary"]]


def _show(out: Output, component: dict[str, Any]) -> None:
    out.line(f"{component['name']} {', '.join(component['versions'])}: {component['summary']}")
    if component["aliases"]:
        out.line(f"also called {', '.join(component['aliases'])}")
    out.line(f"image inputs: {', '.join(component['inputSlots'])}")
    schema = component.get("parametersSchema", {})
    rows = [parameter_row(name, each) for name, each in schema.get("properties", {}).items()]
    out.table(["parameter", "type", "default", "allowed", "unit", "meaning"], rows)


def parameter_row(name: str, schema: dict[str, Any]) -> list[str]:
    """A parameter's JSON Schema in a row: name, type, default, what is allowed, unit, meaning."""
    inner = schema.get("items", schema)
    kind = f"{inner.get('type', '')} list" if "items" in schema else schema.get("type", "")
    default = json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else ""
    meaning = " ".join(schema.get("description", "").split())
    return [name, kind, default, _allowed(inner), schema.get("x-unit", ""), meaning]


def _allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return ""
    return f"{_number(low)} … {_number(high)}".strip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
