"""Parameters: what is taken, what is refused, and that nothing changes on the wire."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageflow.v1.resize_pb2 import ResizeParameters
from imageflow_common.descriptors import own_descriptors
from imageflow_common.errors import InvalidParameters
from imageflow_common.schema import JsonValue, ParameterSchema, Text, camel_case, read_schema

RESIZE, DETECT, FILTER = (
    read_schema(own_descriptors().message(f"imageflow.v1.{name}Parameters"), comments=own_descriptors().comments)
    for name in ("Resize", "Detect", "Filter")
)
RESIZE_DEFAULTS = {
    "width": 800,
    "height": 600,
    "maintainAspectRatio": True,
    "fit": "contain",
    "gravity": "center",
    "kernel": "cubic",
    "enlarge": False,
}


def _only(schema: ParameterSchema, name: str, value: JsonValue) -> JsonValue:
    values, violations = schema.complete({name: value})
    assert violations == []
    return values[camel_case(name)]


def _fault(schema: ParameterSchema, name: str, value: JsonValue) -> str:
    _, violations = schema.complete({name: value})
    (violation,) = violations
    assert violation.field == camel_case(name)
    return violation.description


def test_nothing_given_is_every_default() -> None:
    assert RESIZE.complete({}) == (RESIZE_DEFAULTS, [])


@pytest.mark.parametrize("spelling", ["maintainAspectRatio", "maintain_aspect_ratio", "maintain-aspect-ratio"])
def test_a_name_has_three_spellings(spelling: str) -> None:
    assert _only(RESIZE, spelling, False) is False


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("width", 1, 1),
        ("width", 32768, 32768),
        ("width", 640.0, 640),
        ("width", Text("640"), 640),
        ("width", Text("6.4e2"), 640),
        ("width", None, 800),
        ("enlarge", Text("TRUE"), True),
        ("fit", "cover", "cover"),
        ("fit", Text("cover"), "cover"),
    ],
)
def test_what_is_taken(name: str, given: JsonValue, value: JsonValue) -> None:
    read = _only(RESIZE, name, given)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("width", 0, "at least 1 px, got 0"),
        ("width", 32769, "at most 32768 px, got 32769"),
        ("width", 10**400, "expected a finite number"),
        ("width", float("nan"), "expected a finite number, got NaN"),
        ("width", float("-inf"), "expected a finite number"),
        ("width", Text("inf"), "expected a finite number"),
        ("width", 1.5, "expected an integer, got 1.5"),
        ("width", "640", 'expected an integer, got "640"'),
        ("width", Text("wide"), 'expected a number, got "wide"'),
        ("width", Text(""), "expected a number"),
        ("width", True, "expected an integer, got true"),
        ("width", [640], "expected an integer, got [640]"),
        ("enlarge", 1, "expected true or false, got 1"),
        ("enlarge", "true", "expected true or false"),
        ("enlarge", Text("yes"), "expected true or false"),
        ("fit", "covr", "did you mean 'cover'?"),
        ("fit", 3, "expected text, got 3"),
        ("fit", "\ud800", "expected text"),
    ],
)
def test_what_is_refused_and_how(name: str, given: JsonValue, said: str) -> None:
    assert said in _fault(RESIZE, name, given)


def test_every_fault_is_told_at_once() -> None:
    values, violations = RESIZE.complete({"width": 0, "colour": "red", "heigth": 3, "fit": "no", "enlarge": True})
    assert [violation.field for violation in violations] == ["width", "colour", "heigth", "fit"]
    assert "did you mean 'height'?" in violations[2].description
    assert values["enlarge"] is True


def test_a_parameter_in_two_spellings_is_refused() -> None:
    _, violations = RESIZE.complete({"maintainAspectRatio": True, "maintain_aspect_ratio": False})
    assert [violation.field for violation in violations] == ["maintain_aspect_ratio"]


@pytest.mark.parametrize(
    ("given", "value"), [(["a", "b"], ["a", "b"]), (Text("a,b"), ["a", "b"]), (Text(""), []), ([], [])]
)
def test_a_list_is_taken_as_it_is_or_as_text_with_commas(given: JsonValue, value: JsonValue) -> None:
    assert _only(DETECT, "classes", given) == value


@pytest.mark.parametrize(
    ("given", "said"),
    [("a", "expected a list"), ([1], "expected text"), (["x" * 129], "at most 128"), (["x"] * 1001, "at most 1000")],
)
def test_a_list_with_faults_is_refused(given: JsonValue, said: str) -> None:
    assert said in _fault(DETECT, "classes", given)


def test_other_defaults_take_the_place_of_declared_ones() -> None:
    schema = RESIZE.with_defaults({"width": 320, "fit": "cover"})
    assert schema.complete({"fit": "fill"})[0] == RESIZE_DEFAULTS | {"width": 320, "fit": "fill"}
    assert schema.json_schema()["properties"]["width"]["default"] == 320  # type: ignore[index,call-overload]
    with pytest.raises(InvalidParameters) as raised:
        RESIZE.with_defaults({"width": 0, "colour": "red"})
    assert [violation.field for violation in raised.value.violations] == ["width", "colour"]


def _values(schema: ParameterSchema) -> st.SearchStrategy[dict[str, JsonValue]]:
    return st.fixed_dictionaries({}, optional={name: _valid(schema, name) for name in schema.parameters})


def _valid(schema: ParameterSchema, name: str) -> st.SearchStrategy[Any]:
    parameter = schema.parameters[name]
    if parameter.type == "boolean":
        one: st.SearchStrategy[Any] = st.booleans()
    elif parameter.allowed_values:
        one = st.sampled_from(parameter.allowed_values)
    elif parameter.type == "string":
        one = st.text(st.characters(codec="utf-8"), max_size=parameter.max_length_bytes // 4)
    elif parameter.type == "integer":
        one = st.integers(int(parameter.minimum or 0), int(parameter.maximum or 0))
    else:
        one = st.floats(parameter.minimum, parameter.maximum, allow_nan=False, allow_infinity=False)
    return st.lists(one, max_size=4) if parameter.repeated else one


@pytest.mark.parametrize("schema", [RESIZE, DETECT, FILTER], ids=["resize", "detect", "filter"])
def test_valid_values_survive_the_wire_and_fit_the_json_schema(schema: ParameterSchema) -> None:
    validator = jsonschema.Draft202012Validator(schema.json_schema())

    @given(_values(schema))
    def holds(values: dict[str, JsonValue]) -> None:
        validator.validate(values)
        completed, violations = schema.complete(values)
        assert violations == []
        assert completed.items() >= values.items()
        message = schema.decode(schema.encode(completed))
        for field in message.DESCRIPTOR.fields:
            if field.json_name in completed:
                found = getattr(message, field.name)
                assert (list(found) if field.is_repeated else found) == completed[field.json_name]
        assert schema.decode(message.SerializeToString()) == message

    holds()


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"width": "9"}, {"width": 1.5}, {"fit": "covr"}, {"colour": 1}, {"enlarge": 1}]
)
def test_the_json_schema_refuses_what_complete_refuses(wrong: dict[str, JsonValue]) -> None:
    assert RESIZE.complete(wrong)[1]
    assert not jsonschema.Draft202012Validator(RESIZE.json_schema()).is_valid(wrong)


@pytest.mark.parametrize("schema", [RESIZE, DETECT, FILTER], ids=["resize", "detect", "filter"])
def test_the_json_schema_is_one_and_its_defaults_fit_it(schema: ParameterSchema) -> None:
    json_schema = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(json_schema)
    jsonschema.validate(schema.complete({})[0], json_schema)


def test_the_json_schema_tells_meaning_unit_and_range() -> None:
    assert RESIZE.json_schema()["properties"]["width"] == {  # type: ignore[index,call-overload]
        "type": "integer",
        "minimum": 1,
        "maximum": 32768,
        "default": 800,
        "x-unit": "px",
        "description": "The width of the box to fill or fit into.",
    }


def test_decoding_checks_what_a_stranger_encoded() -> None:
    with pytest.raises(InvalidParameters) as raised:
        RESIZE.decode(ResizeParameters(width=0, fit="covr").SerializeToString())
    assert [violation.field for violation in raised.value.violations] == ["width", "fit"]


def test_what_is_required_must_be_given(compile_proto: Any) -> None:
    schema = _schema(
        compile_proto,
        "optional int64 seed = 1 [(imageflow.v1.parameter) = {required: true}];"
        "repeated string tags = 2 [(imageflow.v1.parameter) = {required: true}];",
    )
    assert {v.field: v.description for v in schema.complete({})[1]} == {"seed": "required", "tags": "required"}
    assert {v.field for v in schema.complete({"seed": None, "tags": []})[1]} == {"seed", "tags"}
    assert schema.complete({"seed": 2**53, "tags": ["a"]})[1] == []
    assert "at most" in schema.complete({"seed": 2**53 + 2, "tags": ["a"]})[1][0].description
    assert schema.json_schema()["required"] == ["seed", "tags"]


def test_a_range_never_leaves_that_of_its_type(compile_proto: Any) -> None:
    schema = _schema(compile_proto, "optional uint32 n = 1 [(imageflow.v1.parameter) = {minimum: -5 maximum: 1e18}];")
    assert (schema.parameters["n"].minimum, schema.parameters["n"].maximum) == (0, 2**32 - 1)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("uint32 n = 1;", "must be `optional`"),
        ("optional float n = 1;", "double"),
        ("optional bytes n = 1;", "parameters are"),
        ("optional Inner n = 1;", "parameters are"),
        ("map<string, string> n = 1;", "parameters are"),
        ('optional uint32 n = 1 [(imageflow.v1.parameter) = {default_json: "-1"}];', "default -1 is not allowed"),
        ('optional uint32 n = 1 [(imageflow.v1.parameter) = {default_json: "{"}];', "default { is not allowed"),
        ('optional double n = 1 [(imageflow.v1.parameter) = {default_json: "NaN"}];', "finite"),
        ('repeated uint32 n = 1 [(imageflow.v1.parameter) = {default_json: "[1]"}];', "a list has no default"),
    ],
)
def test_a_declaration_that_cannot_hold_is_refused(compile_proto: Any, field: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _schema(compile_proto, field)


def _schema(compile_proto: Any, fields: str) -> ParameterSchema:
    descriptors = compile_proto(f"message Inner {{}} message P {{ {fields} }}")
    return read_schema(descriptors.message("acme.v1.P"))
