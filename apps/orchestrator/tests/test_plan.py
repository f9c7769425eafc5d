"""A definition becomes a plan, or an error that holds every fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageflow_common.errors import InvalidPipeline, Unavailable
from imageflow_orchestrator.component_spec import Catalog
from imageflow_orchestrator.definition import (
    PIPELINE_INPUT,
    ComponentName,
    ExecutionId,
    Fallback,
    GlobalParameters,
    OnFailure,
    Persist,
    Pipeline,
    PipelineId,
    PipelineVersion,
    Resources,
    RetryPolicy,
    Step,
    StepId,
)
from imageflow_orchestrator.plan import ASYNCHRONOUS, Plan, PlannedStep, plan_execution


def step(step_id: str, component: str = "resize", *dependencies: str, **options: Any) -> Step:
    return Step(StepId(step_id), ComponentName(component), dependencies=tuple(map(StepId, dependencies)), **options)


def pipeline(*steps: Step, **options: Any) -> Pipeline:
    return Pipeline(PipelineId("p"), steps, **options)


def faults(catalog: Catalog, definition: Pipeline, **options: Any) -> dict[str, str]:
    with pytest.raises(InvalidPipeline) as caught:
        plan_execution(definition, catalog=catalog, **options)
    return {violation.field: violation.description for violation in caught.value.violations}


def planned(catalog: Catalog, *steps: Step, **options: Any) -> dict[str, PlannedStep]:
    return by_id(plan_execution(pipeline(*steps, **options), catalog=catalog))


def by_id(plan: Plan) -> dict[str, PlannedStep]:
    return {step.step_id: step for step in plan.steps}


def test_a_step_gets_its_component_version_target_and_every_parameter(catalog: Catalog) -> None:
    steps = planned(catalog, step("a", "ai-detection", parameters={"annotate": True}), step("b", "resize", "a"))
    detect, resize = steps["a"].call, steps["b"].call
    assert (detect.component_name, detect.component_version, detect.target.name) == (
        "detect",
        "1.0.0",
        "default",
    )
    assert (resize.component_version, resize.parameters) == ("1.1.0", {"width": 800, "maxHeight": 600})
    assert resize.encoded_parameters == b'{"maxHeight": 600, "width": 800}'


def test_steps_are_in_an_order_in_which_they_may_run(catalog: Catalog) -> None:
    steps = [
        step("c", "filter", "b"),
        step("b", "filter", "a"),
        step("a"),
        step("d", "blend", "c", input_from={"mask": "a"}),
    ]
    plan = plan_execution(pipeline(*steps), catalog=catalog)
    assert [(s.step_id, s.stage) for s in plan.steps] == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]
    assert plan.output.step_id == "d"


def test_the_first_dependency_feeds_the_first_slot_unless_input_from_says_otherwise(catalog: Catalog) -> None:
    steps = planned(
        catalog,
        step("a"),
        step("b"),
        step("first", "filter", "b", "a"),
        step("named", "filter", "b", "a", input_from={"image": "a"}),
        step("own", "filter", "b", input_from={"image": PIPELINE_INPUT}),
        output_step="first",
    )
    assert [steps[name].call.inputs[0].source for name in ("first", "named", "own")] == ["b", "a", None]


def test_naming_a_step_in_input_from_is_depending_on_it(catalog: Catalog) -> None:
    steps = planned(catalog, step("m"), step("x", "blend", input_from={"mask": "m"}))
    assert steps["x"].dependencies == steps["x"].start_after == ("m",)
    assert [(fed.slot, fed.source) for fed in steps["x"].call.inputs] == [("image", None), ("mask", "m")]


def test_an_optional_slot_may_stay_open(catalog: Catalog) -> None:
    assert [fed.position for fed in planned(catalog, step("a", "paint"))["a"].call.inputs] == [0]


def test_what_follows_a_looker_takes_the_pixels_before_it_and_may_start_beside_it(catalog: Catalog) -> None:
    steps = planned(catalog, step("r"), step("d", "detect", "r"), step("f", "filter", "d"))
    follower = steps["f"]
    assert follower.call.inputs[0].step_id == "d"
    assert follower.call.inputs[0].source == "r"
    assert (follower.start_after, follower.withheld_by) == (("r",), ("d",))
    assert [steps[name].stage for name in "rdf"] == [0, 1, 1]
    assert [steps[name].consumers for name in "rdf"] == [2, 0, 1]


@pytest.mark.parametrize(
    "options",
    [
        {"parameters": {"annotate": True}},
        {"on_failure": OnFailure.FALLBACK, "fallback": Fallback(ComponentName("filter"))},
    ],
)
def test_what_follows_a_step_that_may_change_the_image_waits_for_it(catalog: Catalog, options: dict[str, Any]) -> None:
    follower = planned(catalog, step("d", "detect", **options), step("f", "filter", "d"))["f"]
    assert (follower.start_after, follower.withheld_by) == (("d",), ())


def test_lookers_in_a_row_are_all_seen_through(catalog: Catalog) -> None:
    steps = planned(catalog, step("r"), step("l1", "look", "r"), step("l2", "look", "l1"), step("f", "filter", "l2"))
    assert (steps["f"].start_after, steps["f"].withheld_by) == (("r",), ("l2",))
    assert steps["l2"].withheld_by == ("l1",)
    assert steps["f"].call.inputs[0].source == "r"


def test_the_output_of_a_looker_is_encoded_by_it_from_the_pixels_before(catalog: Catalog) -> None:
    output = plan_execution(pipeline(step("r"), step("d", "detect", "r")), catalog=catalog).output
    assert (output.step_id, output.source, output.also_feeds) == ("d", "r", False)


def test_an_output_step_that_others_follow_also_feeds_them(catalog: Catalog) -> None:
    definition = pipeline(step("r"), step("f", "filter", "r"), output_step=StepId("r"))
    plan = plan_execution(definition, catalog=catalog)
    assert (plan.output.source, plan.output.also_feeds) == ("r", True)
    assert by_id(plan)["r"].is_output


@pytest.mark.parametrize(
    ("resources", "target"),
    [
        (None, "default"),
        (Resources(), "default"),
        (Resources(cpu="250m"), "default"),
        (Resources(cpu="2", memory="1Gi"), "large"),
        (Resources(gpu="1"), "gpu"),
        (Resources(profile="large"), "large"),
        (Resources(profile="small", gpu="1"), "gpu"),
    ],
)
def test_the_smallest_target_that_is_enough_is_chosen(catalog: Catalog, resources: Resources, target: str) -> None:
    assert planned(catalog, step("d", "detect", resources=resources))["d"].call.target.name == target


def test_what_a_definition_leaves_open_is_filled_by_how_it_is_called(catalog: Catalog) -> None:
    written = RetryPolicy(max_retries=1, initial_delay=timedelta(minutes=10))
    definition = pipeline(step("a"), step("b", "filter", "a", retry_policy=written, persist=Persist.ON_FAILURE))
    synchronous = by_id(plan_execution(definition, catalog=catalog))
    asynchronous = by_id(plan_execution(definition, catalog=catalog, defaults=ASYNCHRONOUS))
    assert (synchronous["a"].retry.max_retries, synchronous["a"].persist) == (2, Persist.NEVER)
    assert (asynchronous["a"].retry.initial_delay, asynchronous["a"].persist) == (
        timedelta(seconds=30),
        Persist.ALWAYS,
    )
    assert (synchronous["b"].retry.max_retries, synchronous["b"].persist) == (1, Persist.ON_FAILURE)
    assert synchronous["b"].retry.delay(1) == synchronous["b"].retry.delay(99) == timedelta(minutes=10)


def test_delays_grow_by_the_factor_up_to_the_cap() -> None:
    delays = [ASYNCHRONOUS.retry.delay(retry).total_seconds() for retry in (1, 2, 3, 4, 5, 100)]
    assert delays == [30, 60, 120, 240, 300, 300]


def test_the_most_that_a_retry_policy_may_say_overflows_nothing(catalog: Catalog) -> None:
    policy = RetryPolicy(100, 100, timedelta(hours=1), timedelta(hours=24))
    assert planned(catalog, step("a", retry_policy=policy))["a"].retry.delay(100) == timedelta(hours=24)


def test_an_override_wins_over_the_same_parameter_in_any_spelling(catalog: Catalog) -> None:
    definition = pipeline(step("a", parameters={"max_height": 1, "width": 2}))
    plan = plan_execution(definition, catalog=catalog, overrides={"a.max-height": 3})
    assert plan.steps[0].call.parameters == {"width": 2, "maxHeight": 3}


_LOOP = [
    step("a", "filter", "c"),
    step("b", "filter", "a"),
    step("c", "filter", "b"),
    step("d", "filter", "b"),
]
_NAN = float("nan")
_FAULTS: list[tuple[Pipeline, str, str]] = [
    (pipeline(), "steps", "at least one"),
    (replace(pipeline(step("a")), pipeline_id=PipelineId("")), "pipelineId", "missing"),
    (replace(pipeline(step("a")), pipeline_id=PipelineId("..")), "pipelineId", "not an id"),
    (pipeline(step("a"), version=PipelineVersion("1/2")), "version", "not an id"),
    (pipeline(step("a"), timeout=timedelta(0)), "timeout", "more than 0"),
    (pipeline(step("")), "steps[0].stepId", "missing"),
    (pipeline(step("1a")), "steps[0].stepId", "not an id"),
    (pipeline(step("a\n")), "steps[0].stepId", "not an id"),
    (pipeline(step("a"), step("a")), "steps[1].stepId", "steps[0] already"),
    (pipeline(step("a", "")), "steps[a].componentName", "missing"),
    (
        pipeline(step("a", "resise")),
        "steps[a].componentName",
        "unknown component 'resise'; did you mean 'resize'?",
    ),
    (pipeline(step("a", component_version="9")), "steps[a].componentVersion", "it has 1.0.0, 1.1.0"),
    (pipeline(step("a", parameters={"widht": 1})), "steps[a].parameters.widht", "unknown"),
    (pipeline(step("a", parameters={"width": "x"})), "steps[a].parameters.width", "whole number"),
    (
        pipeline(step("resize"), step("b", "filter", "resise")),
        "steps[b].dependencies[0]",
        "did you mean 'resize'",
    ),
    (pipeline(step("a", "filter", "a")), "steps[a].dependencies[0]", "itself"),
    (pipeline(step("a"), step("b", "filter", "a", "a")), "steps[b].dependencies[1]", "twice"),
    (pipeline(*_LOOP), "steps[a].dependencies", "a → b → c → a"),
    (pipeline(step("a", input_from={"image": "x"})), "steps[a].inputFrom.image", "no step 'x'"),
    (pipeline(step("a", input_from={"imag": ""})), "steps[a].inputFrom.imag", "did you mean 'image'"),
    (pipeline(step("a", "blend")), "steps[a].inputFrom.mask", "needs an image"),
    (pipeline(step("a"), step("b")), "outputStep", "nothing follows a, b"),
    (pipeline(step("a"), output_step=StepId("aa")), "outputStep", "did you mean 'a'"),
    (pipeline(step("a", timeout=timedelta(hours=25))), "steps[a].timeout", "at most 24 hours"),
    (
        pipeline(step("a", retry_policy=RetryPolicy(-1))),
        "steps[a].retryPolicy.maxRetries",
        "between 0 and 100",
    ),
    (pipeline(step("a", retry_policy=RetryPolicy(10**9))), "steps[a].retryPolicy.maxRetries", "between"),
    (pipeline(step("a", retry_policy=RetryPolicy(1, _NAN))), "steps[a].retryPolicy.backoffFactor", "between"),
    (
        pipeline(step("a", retry_policy=RetryPolicy(jitter=1.1))),
        "steps[a].retryPolicy.jitter",
        "between 0 and 1",
    ),
    (
        pipeline(step("a", retry_policy=RetryPolicy(initial_delay=timedelta(seconds=-1)))),
        "steps[a].retryPolicy.initialDelay",
        "between 0 and 24 hours",
    ),
    (
        pipeline(step("a", retry_policy=RetryPolicy(initial_delay=timedelta(2e-5), max_delay=timedelta(1e-5)))),
        "steps[a].retryPolicy.maxDelay",
        "less than initialDelay",
    ),
    (pipeline(step("a", resources=Resources(cpu="lots"))), "steps[a].resources.cpu", "not a quantity"),
    (pipeline(step("a", resources=Resources(profile="larg"))), "steps[a].resources.profile", "mean 'large'"),
    (
        pipeline(step("a", resources=Resources(gpu="1"))),
        "steps[a].resources",
        "default has 500m cpu, 1Gi memory",
    ),
    (pipeline(step("a", on_failure=OnFailure.FALLBACK)), "steps[a].fallback", "no fallback"),
    (
        pipeline(step("a", fallback=Fallback(ComponentName("filter")))),
        "steps[a].onFailure",
        "must be FALLBACK",
    ),
    (
        pipeline(step("a", on_failure=OnFailure.FALLBACK, fallback=Fallback(ComponentName("resize")))),
        "steps[a].fallback",
        "same call",
    ),
    (
        pipeline(step("a", on_failure=OnFailure.FALLBACK, fallback=Fallback(ComponentName("resiz")))),
        "steps[a].fallback.componentName",
        "did you mean 'resize'",
    ),
    (
        pipeline(
            step("m"),
            step(
                "a",
                "blend",
                input_from={"mask": "m"},
                on_failure=OnFailure.FALLBACK,
                fallback=Fallback(ComponentName("resize")),
            ),
        ),
        "steps[a].fallback.inputFrom.mask",
        "no input slot",
    ),
]


@pytest.mark.parametrize(("definition", "field", "said"), _FAULTS)
def test_a_fault_is_named_by_its_path_alone(catalog: Catalog, definition: Pipeline, field: str, said: str) -> None:
    found = faults(catalog, definition)
    assert list(found) == [field]
    assert said in found[field]


def test_every_fault_is_reported_at_once(catalog: Catalog) -> None:
    definition = pipeline(
        step("a", "resise", timeout=timedelta(0)),
        step("b", "resize", "x", parameters={"widht": 1}),
        pipeline_name="broken",
        timeout=timedelta(days=2),
    )
    assert list(faults(catalog, definition, overrides={"zz.width": 1})) == [
        "timeout",
        "steps[b].dependencies[0]",
        "overrides[zz.width]",
        "steps[a].timeout",
        "steps[a].componentName",
        "steps[b].parameters.widht",
    ]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"b.width": 1}, "no step 'b'"),
        ({"width": 1}, "stepId.parameter"),
        ({"a.": 1}, "stepId.parameter"),
        ({"a.widht": 1}, "unknown parameter"),
        ({"a.width": "x"}, "whole number"),
        ({"a.max_height": 1, "a.maxHeight": 1}, "twice"),
    ],
)
def test_an_override_that_fits_nothing_is_a_fault(catalog: Catalog, overrides: dict[str, Any], said: str) -> None:
    found = faults(catalog, pipeline(step("a")), overrides=overrides)
    assert list(found) == [f"overrides[{list(overrides)[-1]}]"]
    assert said in next(iter(found.values()))


def test_a_stored_definition_has_a_version_and_no_executions_id(catalog: Catalog) -> None:
    definition = pipeline(step("a"), global_parameters=GlobalParameters(execution_id=ExecutionId("e")))
    assert plan_execution(definition, catalog=catalog).steps
    assert list(faults(catalog, definition, stored=True)) == ["version", "globalParameters.executionId"]


def test_a_component_that_is_silent_is_named_only_when_nothing_else_is_wrong(
    catalog_without: Callable[..., Catalog],
) -> None:
    catalog = catalog_without("resize", "filter")
    with pytest.raises(Unavailable, match="'resize', 'filter'"):
        plan_execution(pipeline(step("a"), step("b", "filter", "a"), step("c", "resize", "b")), catalog=catalog)
    assert list(faults(catalog, pipeline(step("a"), step("b", "resize", "x")))) == ["steps[b].dependencies[0]"]


def test_two_cycles_are_reported_each(catalog: Catalog) -> None:
    definition = pipeline(
        step("a", "filter", "b"), step("b", "filter", "a"), step("c", "filter", "d"), step("d", "filter", "c")
    )
    assert list(faults(catalog, definition)) == ["steps[a].dependencies", "steps[c].dependencies"]


def test_a_long_cycle_is_cut_short(catalog: Catalog) -> None:
    steps = [step(f"s{n}", "filter", f"s{(n - 1) % 100}") for n in range(100)]
    sentence = faults(catalog, pipeline(*steps))["steps[s0].dependencies"]
    assert sentence.endswith("s7 → … 92 more … → s0")


def chain(length: int) -> Pipeline:
    return pipeline(*(step(f"s{n}", "filter", *([f"s{n - 1}"] if n else [])) for n in range(length)))


def fan(width: int) -> Pipeline:
    middle = [step(f"s{n}", "filter", "root") for n in range(width - 2)]
    return pipeline(step("root"), *middle, step("end", "filter", *(s.step_id for s in middle)))


@pytest.mark.parametrize("definition", [chain(1000), fan(1000)], ids=["long", "wide"])
def test_a_thousand_steps_are_planned(catalog: Catalog, definition: Pipeline) -> None:
    assert len(plan_execution(definition, catalog=catalog).steps) == 1_000


def test_ten_thousand_steps_are_refused_whatever_else_is_wrong(catalog: Catalog) -> None:
    definition = chain(10_000)
    assert faults(catalog, definition) == {"steps": "10,000 steps; at most 1,000 are allowed"}


def test_too_many_dependencies_are_refused(catalog: Catalog) -> None:
    every = [f"s{n}" for n in range(101)]
    assert (
        "10,100 dependencies"
        in faults(catalog, pipeline(*(step(f"s{n}", "filter", *every) for n in range(100))))["steps"]
    )


def test_a_thousand_misspelt_names_are_reported_each(catalog: Catalog) -> None:
    definition = pipeline(*(step(f"step{n}", f"resise{n}", f"stpe{n}x") for n in range(1000)))
    assert len(faults(catalog, definition)) == 2_000


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_graph_is_planned_in_order_and_its_rules_hold(catalog: Catalog, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    steps = []
    for n in range(count):
        before = data.draw(st.lists(st.sampled_from([f"s{m}" for m in range(n)]), unique=True)) if n else []
        component = data.draw(st.sampled_from(["filter", "look", "detect"]))
        steps.append(step(f"s{n}", component, *before))
    shuffled = data.draw(st.permutations(steps))
    plan = plan_execution(pipeline(*shuffled, output_step=StepId("s0")), catalog=catalog)
    seen: dict[StepId, PlannedStep] = {}
    for one in plan.steps:
        assert seen.keys() >= set(one.dependencies)
        soft = {d for d in one.dependencies if seen[d].only_looks}
        assert set(one.withheld_by) == soft
        expected = set(one.dependencies) - soft
        for d in soft:
            expected |= set(seen[d].start_after)
        assert set(one.start_after) == expected
        assert all(fed.source is None or seen[fed.source].call.changes_image for fed in one.call.inputs)
        seen[one.step_id] = one
