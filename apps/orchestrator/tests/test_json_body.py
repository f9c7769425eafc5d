"""A JSON body is read strictly: what it means, or every fault in it with its path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imageflow.v1.pipeline_pb2 import ExecutePipelineRequest, Pipeline
from imageflow_common.errors import ImageTooLarge, InvalidArgument
from imageflow_orchestrator.json_body import MAX_BODY_BYTES, MAX_FREE_VALUES, parse_body

STEP: dict[str, Any] = {"stepId": "a", "componentName": "resize"}


def faults_of(document: object, message: type[Pipeline] | type[ExecutePipelineRequest] = Pipeline) -> dict[str, str]:
    _, faults = parse_body(json.dumps(document).encode(), message)
    return {fault.field: fault.description for fault in faults}


def refused(body: bytes) -> str:
    with pytest.raises(InvalidArgument) as caught:
        parse_body(body, Pipeline)
    assert caught.value.reason == "INVALID_JSON"
    return caught.value.message


def test_a_whole_definition_is_read_as_it_stands() -> None:
    """R10, R11: every field of a definition and of a step."""
    document = {
        "pipelineId": "p",
        "pipelineName": "P",
        "version": "1",
        "metadata": {"createdBy": "ada", "createdAt": "today", "description": "d"},
        "steps": [
            {
                **STEP,
                "componentVersion": "1.0.0",
                "dependencies": ["b"],
                "parameters": {"width": 7, "nested": {"list": [1, None, "x"]}},
                "resources": {"cpu": "500m", "memory": "1Gi", "gpu": "0"},
                "retryPolicy": {"maxRetries": 0, "backoffFactor": 1.5, "initialDelay": "0.05s"},
                "timeout": "1.5s",
                "onFailure": "SKIP",
                "persist": "ALWAYS",
            }
        ],
        "globalParameters": {"inputPath": "in", "outputPath": "out", "executionId": "e"},
        "failFast": True,
    }

    pipeline, faults = parse_body(json.dumps(document).encode(), Pipeline)

    assert faults == []
    assert (pipeline.pipeline_id, pipeline.metadata.created_by, pipeline.fail_fast) == ("p", "ada", True)
    (step,) = pipeline.steps
    assert (step.parameters["width"], step.on_failure, step.timeout.nanos) == (7, 2, 500_000_000)
    assert step.retry_policy.HasField("max_retries")
    assert pipeline.global_parameters.execution_id == "e"


def test_every_unknown_field_is_named_with_its_path_and_the_nearest_field() -> None:
    faults = faults_of(
        {
            "pipelineID": "p",
            "steps": [{**STEP, "dependancies": []}, {"retryPolicy": {"retries": 1}}],
            "metadata": {"who": 1},
        }
    )

    assert faults == {
        "pipelineID": "unknown field; did you mean 'pipelineId'?",
        "steps[a].dependancies": "unknown field; did you mean 'dependencies'?",
        "steps[1].retryPolicy.retries": "unknown field; did you mean 'maxRetries'?",
        "metadata.who": "unknown field",
    }


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        ({"steps": {}}, "steps", "expected a list, got an object"),
        ({"steps": [1]}, "steps[0]", "expected an object, got a number"),
        ({"steps": [None]}, "steps[0]", "expected an object, got null"),
        ({"steps": [[]]}, "steps[0]", "expected an object, got a list"),
        ({"steps": [{**STEP, "stepId": 1}]}, "steps[0].stepId", "expected text"),
        ({"steps": [{**STEP, "dependencies": ["b", 2]}]}, "steps[a].dependencies[1]", "expected text"),
        ({"steps": [{**STEP, "dependencies": "b"}]}, "steps[a].dependencies", "expected a list, got text"),
        ({"steps": [{**STEP, "parameters": []}]}, "steps[a].parameters", "expected an object"),
        ({"steps": [{**STEP, "inputFrom": {"image": 1}}]}, "steps[a].inputFrom", "expected an object"),
        ({"steps": [{**STEP, "timeout": 5}]}, "steps[a].timeout", 'expected a duration such as "1.5s"'),
        ({"steps": [{**STEP, "timeout": "5"}]}, "steps[a].timeout", 'expected a duration such as "1.5s"'),
        ({"steps": [{**STEP, "onFailure": "STOP"}]}, "steps[a].onFailure", "expected one of FAIL, SKIP, FALLBACK"),
        ({"steps": [{**STEP, "onFailure": 99}]}, "steps[a].onFailure", "expected one of FAIL, SKIP, FALLBACK"),
        ({"steps": [{**STEP, "onFailure": []}]}, "steps[a].onFailure", "expected one of FAIL, SKIP, FALLBACK"),
        (
            {"steps": [{**STEP, "retryPolicy": {"maxRetries": 2**40}}]},
            "steps[a].retryPolicy.maxRetries",
            "expected a number in range",
        ),
        (
            {"steps": [{**STEP, "retryPolicy": {"jitter": 10**400}}]},
            "steps[a].retryPolicy.jitter",
            "expected a number in range",
        ),
        ({"steps": [{**STEP, "parameters": {"x": 10**400}}]}, "steps[a].parameters", "expected an object"),
        ({"failFast": "yes"}, "failFast", "expected true or false"),
        ({"metadata": "m"}, "metadata", "expected an object, got text"),
        ({"pipelineId": ["p"]}, "pipelineId", "expected text"),
        ({"pipelineId": "p", "pipeline_id": "q"}, "pipeline_id", "given twice, in two spellings"),
        ({"steps": [STEP] * 1_001}, "steps", "at most 1000 entries, got 1001"),
    ],
)
def test_a_wrong_type_is_a_fault_at_its_path(change: dict[str, Any], path: str, expected: str) -> None:
    """R3: a wrong type is refused before any step runs."""
    assert faults_of(change) == {path: expected}


def test_null_is_as_good_as_nothing() -> None:
    assert faults_of({"pipelineId": None, "steps": None, "metadata": {"createdBy": None}}) == {}


def test_the_field_that_carries_the_body_cannot_be_named_in_it() -> None:
    assert faults_of({"body": {}}, ExecutePipelineRequest) == {"body": "unknown field"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"x"', "not a JSON object"),
        (b'{"pipelineId": NaN}', "NaN is not a JSON number"),
        (b'{"pipelineId": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"steps": [{"parameters": {"x": 1e999}}]}', "1e999 is too large a number"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "'b' is given twice"),
        (b'{"pipelineId": "\xff"}', "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"x": ' + b"9" * 5_000 + b"}", "not JSON"),
    ],
)
def test_what_is_no_json_object_is_refused_whole(body: bytes, says: str) -> None:
    assert says in refused(body)


def test_parameters_nested_too_deeply_are_a_fault() -> None:
    deep: object = 1
    for _ in range(500):
        deep = {"x": deep}

    assert faults_of({"steps": [{**STEP, "parameters": {"x": deep}}]}) == {"steps[a].parameters": "nested too deeply"}


def test_more_values_than_parameters_ever_need_are_a_fault() -> None:
    full = {**STEP, "stepId": "full", "parameters": {"x": [0] * (MAX_FREE_VALUES - 3)}}
    over = {**STEP, "stepId": "over", "parameters": {"x": 0}}

    assert faults_of({"steps": [full]}) == {}
    assert faults_of({"steps": [full, over]}) == {
        "steps[over].parameters": "more than 20,000 values in the body's parameters"
    }


def test_text_that_is_no_unicode_is_a_fault() -> None:
    _, faults = parse_body(b'{"pipelineId": "\\ud800"}', Pipeline)

    assert [fault.field for fault in faults] == ["pipelineId"]


def test_a_step_id_full_of_dots_is_not_taken_for_depth() -> None:
    assert faults_of({"steps": [{**STEP, "stepId": "." * 64}]}) == {}


def test_more_than_four_mebibytes_are_refused_unread() -> None:
    body = b'{"pipelineName": "' + b"x" * MAX_BODY_BYTES + b'"}'

    with pytest.raises(ImageTooLarge) as caught:
        parse_body(body, Pipeline)

    assert caught.value.reason == "BODY_TOO_LARGE"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"steps": [STEP] * 10_000}).encode(),
        b"{" + b",".join(b'"f%d":0' % n for n in range(300_000)) + b"}",
        b"{" + b",".join(b'"f%d":0' % (n % 299_999) for n in range(300_000)) + b"}",
        json.dumps({"steps": [{**STEP, "wrong": 1, "wronger": 2} for _ in range(1_000)]}).encode(),
        b'{"steps":[{"parameters":{' + b",".join(b'"f%d":0' % n for n in range(300_000)) + b"}}]}",
        b'{"steps":[{"parameters":{"x":[' + b"0," * 2_000_000 + b"0]}}]}",
    ],
    ids=["10,000 steps", "unknown fields", "one name twice", "2,000 faults", "parameters", "a long list"],
)
def test_a_hostile_body_gets_a_bounded_answer(body: bytes) -> None:
    assert len(body) <= MAX_BODY_BYTES

    try:
        _, faults = parse_body(body, Pipeline)
        assert len(faults) <= 1_001
    except InvalidArgument:
        pass


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["steps", "stepId", "parameters", "retryPolicy", "jitter", "timeout", "onFailure", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(document=st.dictionaries(st.sampled_from(["pipelineId", "steps", "metadata", "timeout", "zzz"]), _JSON))
@example(document={"pipelineId": "\ud800"})
@settings(max_examples=150, deadline=None)
def test_any_json_object_is_a_message_and_faults_or_an_invalid_argument(document: dict[str, object]) -> None:
    try:
        message, _ = parse_body(json.dumps(document).encode(), Pipeline)
    except InvalidArgument:
        return
    message.SerializeToString()


@given(body=st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_message_or_an_invalid_argument(body: bytes) -> None:
    try:
        parse_body(body, Pipeline)
    except InvalidArgument:
        return
