"""A request's JSON, read strictly: every unknown field and wrong type is reported, with its path.

The gateway's transcoder would drop unknown fields in silence, so it hands such bodies over as they came.
"""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from imageflow_common.errors import ImageTooLarge, InvalidArgument, Violation
from imageflow_common.schema import JsonValue

M = TypeVar("M", bound=Message)

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_ITEMS = 1_000
MAX_FREE_VALUES = 20_000  # in all free-form objects of one body (a step's parameters): each costs some 10 µs
_MOST_FAULTS = 1_000
_MOST_SUGGESTIONS = 50
_SHOWN_CHARACTERS = 100


def parse_body(
    data: bytes, message: type[M], *, hidden: frozenset[str] = frozenset({"body"})
) -> tuple[M, list[Violation]]:
    """The message that the JSON says, as far as it can be read, and every fault in it.

    `hidden` are fields that JSON may not name. Raises InvalidArgument for what is no JSON object at all.
    """
    document = load_object(data)
    walk = _Walk(hidden)
    clean = walk.message(document, cast(Descriptor, message.DESCRIPTOR), "")
    return ParseDict(clean, message()), walk.violations()


def load_object(data: bytes) -> dict[str, JsonValue]:
    """Raises InvalidArgument for what is no JSON object: no JSON, a name given twice, a number that JSON has not."""
    if len(data) > MAX_BODY_BYTES:
        raise ImageTooLarge(f"a JSON body of {len(data)} bytes, more than {MAX_BODY_BYTES}", reason="BODY_TOO_LARGE")
    try:
        document = json.loads(
            data.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError) as exc:
        detail = exc if isinstance(exc, ValueError) else "nested too deeply"
        raise InvalidArgument(f"the body is not JSON: {detail}", reason="INVALID_JSON") from exc
    if not isinstance(document, dict):
        raise InvalidArgument("the body is not a JSON object", reason="INVALID_JSON")
    return document


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    result = dict(pairs)
    if len(result) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice[:100]!r} is given twice in one object")
    return result


class _Walk:
    """Copies what fits a message's descriptor and notes what does not: the first 1,000 faults in words, the rest in
    number, so that a body of nothing but faults costs little."""

    def __init__(self, hidden: frozenset[str]) -> None:
        self._hidden = hidden
        self._found: list[Violation] = []
        self._unsaid = 0
        self._values = 0

    def violations(self) -> list[Violation]:
        more = [Violation("", f"and {self._unsaid:,} more faults")] if self._unsaid else []
        return self._found + more

    def message(self, value: JsonValue, descriptor: Descriptor, path: str) -> dict[str, JsonValue]:
        if not isinstance(value, dict):
            self._fault(path, f"expected an object, got {_kind(value)}")
            return {}
        return dict(self._fields(value, descriptor, path))

    def _fields(
        self, value: dict[str, JsonValue], descriptor: Descriptor, path: str
    ) -> Iterator[tuple[str, JsonValue]]:
        hidden = self._hidden if not path else frozenset()
        known = {field.json_name: field for field in descriptor.fields if field.name not in hidden}
        known |= {field.name: field for field in known.values()}
        taken: set[str] = set()
        for name, item in value.items():
            shown = name[:_SHOWN_CHARACTERS]
            place = f"{path}.{shown}" if path else shown
            if (field := known.get(name)) is None:
                self._fault(place, self._unknown(name, known))
            elif field.name in taken:
                self._fault(place, "given twice, in two spellings")
            elif item is not None:
                taken.add(field.name)
                yield from self._field(item, field, place)

    def _field(self, value: JsonValue, field: FieldDescriptor, path: str) -> Iterator[tuple[str, JsonValue]]:
        if field.is_repeated and not _is_map(field):
            yield field.json_name, self._list(value, field, path)
            return
        message = field.message_type
        if message is not None and message.file.package != "google.protobuf" and not _is_map(field):
            yield field.json_name, self.message(value, message, path)
        elif self._fits({field.json_name: value}, field, path):
            yield field.json_name, value

    def _list(self, value: JsonValue, field: FieldDescriptor, path: str) -> list[JsonValue]:
        if not isinstance(value, list):
            self._fault(path, f"expected a list, got {_kind(value)}")
            return []
        if len(value) > MAX_ITEMS:
            self._fault(path, f"at most {MAX_ITEMS} entries, got {len(value)}")
            return []
        items: list[JsonValue] = []
        for index, item in enumerate(value):
            place = f"{path}[{_label(item, index)}]"
            if field.message_type is not None:
                items.append(self.message(item, field.message_type, place))
            elif self._fits({field.json_name: [item]}, field, place):
                items.append(item)
        return items

    def _fits(self, value: dict[str, JsonValue], field: FieldDescriptor, path: str) -> bool:
        if field.enum_type is not None and not _names_a_value(value[field.json_name], field):
            self._fault(path, f"expected {_expected(field)}")
            return False
        if _is_free(field):
            self._values += _count(value, MAX_FREE_VALUES + 1 - self._values)
            if self._values > MAX_FREE_VALUES:
                self._fault(path, f"more than {MAX_FREE_VALUES:,} values in the body's parameters")
                return False
        try:
            ParseDict(value, GetMessageClass(cast(Descriptor, field.containing_type))())
        except (ParseError, ValueError, OverflowError, RecursionError, AttributeError, TypeError) as exc:
            deep = isinstance(exc, RecursionError) or "recursion" in str(exc)
            self._fault(path, "nested too deeply" if deep else f"expected {_expected(field)}")
            return False
        return True

    def _unknown(self, name: str, known: dict[str, FieldDescriptor]) -> str:
        """Comparing names is dear, so suggestions stop after the first faults."""
        if len(self._found) >= _MOST_SUGGESTIONS:
            return "unknown field"
        near = difflib.get_close_matches(name[:100], [field.json_name for field in known.values()], n=1)
        return f"unknown field; did you mean {near[0]!r}?" if near else "unknown field"

    def _fault(self, path: str, description: str) -> None:
        if len(self._found) < _MOST_FAULTS:
            self._found.append(Violation(path, description))
        else:
            self._unsaid += 1


def _names_a_value(value: JsonValue, field: FieldDescriptor) -> bool:
    return isinstance(value, str) and field.enum_type is not None and value in field.enum_type.values_by_name


def _is_free(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct"


def _count(value: JsonValue, most: int) -> int:
    """How many values stand in it, itself included; counts no further than `most`."""
    found, waiting = 0, [iter([value])]
    while waiting and found < most:
        for item in waiting[-1]:
            found += 1
            if isinstance(item, dict | list):
                waiting.append(iter(item.values() if isinstance(item, dict) else item))
                break
            if found >= most:
                break
        else:
            waiting.pop()
    return found


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _label(item: JsonValue, index: int) -> str:
    """A step by its id, anything else by its number."""
    step_id = item.get("stepId") if isinstance(item, dict) else None
    return step_id[:64] if isinstance(step_id, str) and step_id else str(index)


def _expected(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return "one of " + ", ".join(value.name for value in field.enum_type.values if value.number)
    if field.message_type is None:
        return {"string": "text", "bool": "true or false"}.get(_type_name(field), "a number in range")
    if _is_map(field):
        return "an object"
    return {"Duration": 'a duration such as "1.5s"', "Struct": "an object"}.get(
        field.message_type.name, field.message_type.name
    )


def _type_name(field: FieldDescriptor) -> str:
    return {FieldDescriptor.TYPE_STRING: "string", FieldDescriptor.TYPE_BOOL: "bool"}.get(field.type, "number")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
