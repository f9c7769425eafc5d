"""What a component's parameters may be, read from its .proto: the one source of types, ranges and defaults.

A parameters message is flat: booleans, 32 and 64 bit integers, doubles, strings, and lists of these. Names are
canonical in lowerCamelCase; snake_case and kebab-case are accepted. What is given must survive the wire as it is:
so no `float`, every single field `optional`, and no default for a list, which is nothing at all when it is empty.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from imageflow.v1.parameter_pb2 import ParameterOptions

from .errors import InvalidParameters, Violation

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

_INTEGER_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**53), 2**53),
    FieldDescriptor.TYPE_UINT64: (0, 2**53),
}
_JSON_TYPES = {
    FieldDescriptor.TYPE_BOOL: "boolean",
    FieldDescriptor.TYPE_DOUBLE: "number",
    FieldDescriptor.TYPE_STRING: "string",
    **dict.fromkeys(_INTEGER_RANGES, "integer"),
}
_DEFAULT_MAX_ITEMS = 1_000
_DEFAULT_MAX_LENGTH_BYTES = 1_024


class Text(str):
    """A value given as text, as in a query or on a command line: read by the type of its parameter."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: `type` is its JSON Schema type (of an item, when `repeated`)."""

    name: str
    proto_name: str
    type: str
    repeated: bool
    description: str
    default: JsonValue
    minimum: float | None
    maximum: float | None
    allowed_values: tuple[str, ...]
    unit: str
    required: bool
    max_items: int
    max_length_bytes: int

    def json_schema(self) -> dict[str, JsonValue]:
        schema: dict[str, JsonValue] = {"type": self.type}
        if self.minimum is not None:
            schema["minimum"] = _plain(self.minimum)
        if self.maximum is not None:
            schema["maximum"] = _plain(self.maximum)
        if self.allowed_values:
            schema["enum"] = list(self.allowed_values)
        elif self.type == "string":
            schema["maxLength"] = self.max_length_bytes
        if self.repeated:
            schema = {"type": "array", "items": schema, "maxItems": self.max_items}
            if self.required:
                schema["minItems"] = 1
        if self.default is not None:
            schema["default"] = self.default
        if self.unit:
            schema["x-unit"] = self.unit
        if self.description:
            schema["description"] = self.description
        return schema

    def read(self, value: JsonValue) -> JsonValue:
        """The value in its canonical type. Raises ValueError that says what is expected."""
        if not self.repeated:
            return self._read_one(value)
        items = (value.split(",") if value else []) if isinstance(value, Text) else value
        if not isinstance(items, list):
            raise ValueError(f"expected a list, got {_show(value)}")
        if len(items) > self.max_items:
            raise ValueError(f"at most {self.max_items} entries, got {len(items)}")
        if self.required and not items:
            raise ValueError("at least one entry")
        return [self._read_one(Text(item) if isinstance(value, Text) else item) for item in items]

    def _read_one(self, value: JsonValue) -> JsonValue:
        match self.type:
            case "boolean":
                return _read_boolean(value)
            case "string":
                return self._read_string(value)
            case _:
                return self._read_number(value)

    def _read_string(self, value: JsonValue) -> str:
        if not isinstance(value, str):
            raise ValueError(f"expected text, got {_show(value)}")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("expected text, got half of a surrogate pair")
        if len(value.encode()) > self.max_length_bytes:
            raise ValueError(f"at most {self.max_length_bytes} bytes")
        if self.allowed_values and value not in self.allowed_values:
            near = difflib.get_close_matches(value, self.allowed_values, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"expected one of {', '.join(self.allowed_values)}, got {_show(value)}{hint}")
        return str(value)

    def _read_number(self, value: JsonValue) -> float:
        number = _read_text_number(value) if isinstance(value, Text) else value
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise ValueError(f"expected {'an integer' if self.type == 'integer' else 'a number'}, got {_show(value)}")
        if abs(number) > sys.float_info.max or math.isnan(number):
            raise ValueError(f"expected a finite number, got {_show(value)}")
        if self.type == "integer" and number != int(number):
            raise ValueError(f"expected an integer, got {_show(value)}")
        if self.minimum is not None and number < self.minimum:
            raise ValueError(f"at least {_plain(self.minimum)}{self._unit()}, got {_show(value)}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"at most {_plain(self.maximum)}{self._unit()}, got {_show(value)}")
        return int(number) if self.type == "integer" else float(number)

    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""


@dataclass(frozen=True, slots=True)
class ParameterSchema:
    """The parameters of one component."""

    descriptor: Descriptor
    parameters: Mapping[str, Parameter]

    def json_schema(self) -> dict[str, JsonValue]:
        """A JSON Schema, draft 2020-12."""
        required: list[JsonValue] = [p.name for p in self.parameters.values() if p.required]
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.descriptor.name,
            "type": "object",
            "properties": {p.name: p.json_schema() for p in self.parameters.values()},
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }

    def with_defaults(self, defaults: Mapping[str, JsonValue]) -> ParameterSchema:
        """The same with other defaults. Raises InvalidParameters for one that is not allowed."""
        values, violations = self._read_all(defaults)
        if violations:
            raise InvalidParameters("defaults are not allowed", violations=violations)
        return replace(
            self,
            parameters={name: replace(p, default=values.get(name, p.default)) for name, p in self.parameters.items()},
        )

    def complete(self, given: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], list[Violation]]:
        """Every parameter by canonical name, defaults filled in; and every fault, its field the canonical name, or
        the name as given where that is not known."""
        values, violations = self._read_all(given)
        known = {violation.field for violation in violations}
        for name, parameter in self.parameters.items():
            if name in values or name in known:
                continue
            if parameter.default is not None:
                values[name] = parameter.default
            elif parameter.required:
                violations.append(Violation(name, "required"))
        return values, violations

    def encode(self, values: Mapping[str, JsonValue]) -> bytes:
        """The serialised parameters message. `values` are as `complete` answered them."""
        message = GetMessageClass(self.descriptor)()
        return ParseDict(dict(values), message).SerializeToString(deterministic=True)

    def decode(self, data: bytes) -> Message:
        """The parameters message, checked, with defaults filled in. Raises InvalidParameters."""
        message: Message = GetMessageClass(self.descriptor).FromString(data)
        values, violations = self.complete(_fields(message))
        if violations:
            raise InvalidParameters("the parameters are not allowed", violations=violations)
        return GetMessageClass(self.descriptor).FromString(self.encode(values))

    def _read_all(self, given: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], list[Violation]]:
        values: dict[str, JsonValue] = {}
        violations: list[Violation] = []
        for name, value in given.items():
            canonical = camel_case(name)
            parameter = self.parameters.get(canonical)
            if parameter is None:
                violations.append(Violation(name, self._unknown(canonical)))
            elif canonical in values:
                violations.append(Violation(name, f"given twice, as {canonical} in another spelling"))
            elif value is not None:
                try:
                    values[canonical] = parameter.read(value)
                except ValueError as exc:
                    violations.append(Violation(canonical, str(exc)))
        return values, violations

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.parameters, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.parameters) or 'none'}"
        return f"unknown parameter; {hint}"


def read_schema(descriptor: Descriptor, *, comments: Mapping[str, str] | None = None) -> ParameterSchema:
    """Reads the parameters that a message declares. `comments` has each field's, by full name.

    Raises ValueError for a field that parameters cannot have, or a default that is not allowed.
    """
    parameters = [_read_parameter(field, (comments or {}).get(field.full_name, "")) for field in descriptor.fields]
    return ParameterSchema(descriptor, {p.name: p for p in parameters})


def camel_case(name: str) -> str:
    """`filter_type`, `filter-type` and `filterType` are all `filterType`."""
    head, *rest = re.split(r"[_-]", name)
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _read_parameter(field: FieldDescriptor, comment: str) -> Parameter:
    json_type = _JSON_TYPES.get(field.type)
    if json_type is None:
        raise ValueError(
            f"{field.full_name}: parameters are bool, int32, int64, uint32, uint64, double, string, or lists of these"
        )
    if not field.is_repeated and not field.has_presence:
        raise ValueError(f"{field.full_name}: must be `optional`: absent is not zero")
    options = _options(field)
    if field.is_repeated and options.default_json:
        raise ValueError(f"{field.full_name}: a list has no default")
    low, high = _INTEGER_RANGES.get(field.type, (-math.inf, math.inf))
    minimum = max(low, options.minimum) if options.HasField("minimum") else low
    maximum = min(high, options.maximum) if options.HasField("maximum") else high
    parameter = Parameter(
        name=field.json_name,
        proto_name=field.name,
        type=json_type,
        repeated=field.is_repeated,
        description=comment,
        default=None,
        minimum=minimum if math.isfinite(minimum) else None,
        maximum=maximum if math.isfinite(maximum) else None,
        allowed_values=tuple(options.allowed_values),
        unit=options.unit,
        required=options.required,
        max_items=options.max_items or _DEFAULT_MAX_ITEMS,
        max_length_bytes=options.max_length_bytes or _DEFAULT_MAX_LENGTH_BYTES,
    )
    if not options.default_json:
        return parameter
    try:
        return replace(parameter, default=parameter.read(json.loads(options.default_json)))
    except ValueError as exc:
        raise ValueError(f"{field.full_name}: default {options.default_json} is not allowed: {exc}") from exc


def _options(field: FieldDescriptor) -> ParameterOptions:
    """The options as our own class, whatever descriptor pool the field came from."""
    for extension, value in field.GetOptions().ListFields():
        if extension.full_name == "imageflow.v1.parameter":
            return ParameterOptions.FromString(value.SerializeToString())
    return ParameterOptions()


def _fields(message: Message) -> dict[str, JsonValue]:
    return {field.json_name: list(value) if field.is_repeated else value for field, value in message.ListFields()}


def _read_boolean(value: JsonValue) -> bool:
    if isinstance(value, Text) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {_show(value)}")
    return value


def _read_text_number(value: Text) -> float:
    for read in (int, float):
        with suppress(ValueError):
            return read(value)
    raise ValueError(f"expected a number, got {_show(value)}")


def _plain(number: float) -> float:
    return int(number) if float(number).is_integer() else number


def _show(value: JsonValue) -> str:
    """The value as a caller would have written it: JSON's numbers arrive as floats."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
