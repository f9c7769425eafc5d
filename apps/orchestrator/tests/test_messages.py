"""A definition as a message is read as it stands, or refused; whatever a client of gRPC may have put there."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from orchestrator_scripted import REGISTRY, ScriptedCaller

from imageflow.v1.pipeline_pb2 import Fallback, Pipeline, Resources, RetryPolicy, Step
from imageflow_common.errors import InvalidArgument, InvalidPipeline
from imageflow_common.shared import Capability
from imageflow_orchestrator.catalog import LiveCatalog
from imageflow_orchestrator.definition import OnFailure, Persist
from imageflow_orchestrator.json_body import MAX_BODY_BYTES, MAX_FREE_VALUES, parse_body
from imageflow_orchestrator.messages import read_pipeline, read_values
from imageflow_orchestrator.planner import plan_given
from imageflow_orchestrator.registry import parse_registry


@cache
def catalog() -> LiveCatalog:
    made = LiveCatalog(parse_registry(REGISTRY), ScriptedCaller(), Capability("", ""))
    asyncio.run(made.refresh())
    return made


def test_what_a_step_does_not_say_is_none_and_zero_is_not_nothing() -> None:
    """R11"""
    said = Step(step_id="a", retry_policy=RetryPolicy(max_retries=0, jitter=0))

    silent, given_ = read_pipeline(Pipeline(steps=[Step(step_id="b"), said])).steps

    assert (silent.timeout, silent.retry_policy, silent.on_failure, silent.persist, silent.resources) == (None,) * 5
    assert given_.retry_policy is not None
    assert (given_.retry_policy.max_retries, given_.retry_policy.jitter) == (0, 0)
    assert (given_.retry_policy.backoff_factor, given_.retry_policy.initial_delay) == (None, None)


def test_choices_and_times_are_read_as_such() -> None:
    """R52"""
    said = Step(
        step_id="a", on_failure=Step.SKIP, persist=Step.ON_FAILURE, timeout=Duration(seconds=1, nanos=500_000_000)
    )

    (step,) = read_pipeline(Pipeline(steps=[said])).steps

    assert (step.on_failure, step.persist, step.timeout) == (OnFailure.SKIP, Persist.ON_FAILURE, timedelta(seconds=1.5))


def parameters(count: int) -> Struct:
    made = Struct()
    made.update({"x": [0] * (count - 2)})  # the object and the list are values too
    return made


def test_as_many_values_are_read_as_json_may_have() -> None:
    """Over all steps; a client of gRPC has no other bound."""
    half = MAX_FREE_VALUES // 2
    whole = [Step(step_id="a", parameters=parameters(half)), Step(step_id="b", parameters=parameters(half))]
    assert len(read_pipeline(Pipeline(steps=whole)).steps) == 2

    for over in (
        [*whole, Step(step_id="c", parameters=parameters(4))],
        [*whole, Step(step_id="c", fallback=Fallback(parameters=parameters(4)))],
        [Step(step_id="a", parameters=parameters(10 * MAX_FREE_VALUES))],
    ):
        with pytest.raises(InvalidPipeline, match="more than 20,000 values"):
            read_pipeline(Pipeline(steps=over))


def test_overrides_have_no_more_values_either() -> None:
    one = Value(struct_value=parameters(MAX_FREE_VALUES // 2))
    assert len(read_values({"a.x": one})) == 1
    with pytest.raises(InvalidPipeline, match="overrides: more than 20,000 values"):
        read_values({"a.x": one, "b.x": one, "c.x": one})


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([Step()] * 1_001, "1,001 steps"),
        ([Step(dependencies=["a"] * 9_000, input_from={"image": "a"}), Step(dependencies=["a"] * 1_000)], "10,001"),
        ([Step(component_name="x" * MAX_BODY_BYTES)], "bytes; at most 4,194,304 are read"),
    ],
)
def test_what_is_far_too_large_is_not_read(steps: list[Step], said: str) -> None:
    with pytest.raises(InvalidPipeline, match=said):
        read_pipeline(Pipeline(steps=steps))


@pytest.mark.parametrize(
    "value",
    [Value(number_value=float("nan")), Value(struct_value=Struct(fields={"x": Value(number_value=float("inf"))}))],
)
def test_an_override_that_json_has_not_is_refused_by_its_name(value: Value) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_values({"a.x": value})

    assert [violation.field for violation in caught.value.violations] == ["overrides[a.x]"]


_TEXT = st.sampled_from(["", "a", "b", "resize", "filter", "detect", "image", "..", "1.0.0", "500m", "9Xi", "é" * 99])
_NUMBER = st.sampled_from([0.0, -1.0, 1.5, 1e300, float("nan"), float("inf")])
_VALUE = st.recursive(
    st.builds(Value)
    | st.builds(Value, number_value=_NUMBER)
    | st.builds(Value, string_value=_TEXT)
    | st.builds(Value, bool_value=st.booleans()),
    lambda inner: st.builds(lambda values: Value(list_value=ListValue(values=values)), st.lists(inner, max_size=2)),
    max_leaves=3,
)
_STRUCT = st.builds(
    lambda fields: Struct(fields=fields),
    st.dictionaries(
        st.sampled_from(["width", "filter_type", "filterType", "annotate", "classes", ""]), _VALUE, max_size=3
    ),
)
_RETRIES = st.sampled_from([0, -1, 2**31 - 1])
_DURATION = st.builds(
    lambda seconds, nanos: Duration(seconds=seconds, nanos=nanos),
    st.sampled_from([0, 1, -1, 100_000, 2**62, -(2**62)]),
    st.sampled_from([0, 1, -1, 2**31 - 1]),
)
_STEP = st.builds(
    Step,
    step_id=_TEXT,
    component_name=_TEXT,
    component_version=_TEXT,
    dependencies=st.lists(_TEXT, max_size=3),
    parameters=_STRUCT,
    input_from=st.dictionaries(_TEXT, _TEXT, max_size=2),
    resources=st.builds(Resources, cpu=_TEXT, memory=_TEXT, gpu=_TEXT, profile=_TEXT),
    retry_policy=st.none() | st.builds(RetryPolicy, max_retries=_RETRIES, backoff_factor=_NUMBER, max_delay=_DURATION),
    timeout=st.none() | _DURATION,
    on_failure=st.sampled_from([0, 1, 2, 3, 99, -1]),
    fallback=st.none() | st.builds(Fallback, component_name=_TEXT, parameters=_STRUCT),
    persist=st.sampled_from([0, 3, 99]),
)
_PIPELINE = st.builds(
    Pipeline,
    pipeline_id=_TEXT,
    version=_TEXT,
    steps=st.lists(_STEP, max_size=4),
    output_step=_TEXT,
    timeout=st.none() | _DURATION,
)


@given(pipeline=_PIPELINE, overrides=st.dictionaries(st.sampled_from(["a.width", "b.x", "a", "."]), _VALUE, max_size=2))
@settings(max_examples=60, deadline=None)
def test_any_message_is_a_plan_or_an_invalid_pipeline(pipeline: Pipeline, overrides: dict[str, Value]) -> None:
    """R12"""
    with suppress(InvalidPipeline):
        plan_given(pipeline, catalog(), read_values(overrides))


_ODD: Any = st.none() | st.booleans() | st.integers(-5, 10**30) | st.sampled_from(["", "a", "resize", "1s", "FAIL"])
_FIELDS = [field.json_name for field in Step.DESCRIPTOR.fields]


@given(steps=st.lists(st.dictionaries(st.sampled_from(_FIELDS), _ODD | st.lists(_ODD, max_size=2)), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_steps_in_json_are_a_plan_or_an_invalid_pipeline(steps: list[dict[str, object]]) -> None:
    """R12"""
    pipeline, faults = parse_body(json.dumps({"pipelineId": "p", "steps": steps}).encode(), Pipeline)
    with suppress(InvalidPipeline):
        plan_given(pipeline, catalog(), {}, faults)
