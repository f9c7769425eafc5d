"""An execution goes on from what is known of it, and says when it only waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from imageflow_orchestrator.component_spec import Catalog
from imageflow_orchestrator.definition import (
    ComponentName,
    Fallback,
    OnFailure,
    Pipeline,
    PipelineId,
    RetryPolicy,
    Step,
    StepId,
)
from imageflow_orchestrator.effects import (
    AttemptFailed,
    AttemptSucceeded,
    Effect,
    Failure,
    Finished,
    ReleaseOutput,
    RetryDue,
    RetryHopeless,
    ScheduleRetry,
    SkipReason,
    StartAttempt,
    Status,
    StepOutcome,
    StepSettled,
)
from imageflow_orchestrator.plan import Plan, plan_execution
from imageflow_orchestrator.state import ExecutionState, advance, begin, resume

A, B, C, D, E = (StepId(name) for name in "abcde")
_LOST = Failure("UNAVAILABLE", "UNAVAILABLE", "connection lost", retryable=True)
_BAD = Failure("INVALID_ARGUMENT", "INVALID_IMAGE", "not an image", step_id=A)


def step(step_id: str, component: str, *needs: str, **options: Any) -> Step:
    return Step(StepId(step_id), ComponentName(component), dependencies=tuple(map(StepId, needs)), **options)


def passed(image: str | None, *, attempts: int = 1) -> StepOutcome:
    return StepOutcome(Status.COMPLETED, attempts=attempts, image_source=None if image is None else StepId(image))


def started(effects: tuple[Effect, ...]) -> list[tuple[str, int, list[str | None]]]:
    return [
        (effect.step_id, effect.attempt, [fed.source for fed in effect.inputs])
        for effect in effects
        if isinstance(effect, StartAttempt)
    ]


class Planner:
    """Plans pipelines of made-up components."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __call__(self, *steps: Step, **options: Any) -> Plan:
        return plan_execution(Pipeline(PipelineId("p"), steps, **options), catalog=self._catalog)


@pytest.fixture
def plan(catalog: Catalog) -> Planner:
    return Planner(catalog)


@pytest.fixture
def three(plan: Planner) -> Plan:
    return plan(step("a", "resize"), step("b", "filter", "a"), step("c", "filter", "b"))


def test_steps_that_had_finished_are_not_started_again(three: Plan) -> None:
    state, effects = resume(three, {A: passed("a", attempts=2), B: passed("b")})
    assert started(effects) == [("c", 1, ["b"])]
    assert not [effect for effect in effects if isinstance(effect, StepSettled)]
    _, effects = advance(state, AttemptSucceeded(C, 1))
    assert isinstance(effects[-1], Finished)
    assert effects[-1].outcome.status is Status.COMPLETED
    assert [outcome.attempts for outcome in effects[-1].outcome.steps.values()] == [2, 1, 1]


def test_an_execution_whose_steps_had_all_finished_ends_at_once(three: Plan) -> None:
    state, effects = resume(three, {A: passed("a"), B: passed("b"), C: passed("c")})
    assert state.finished
    assert isinstance(effects[-1], Finished)
    assert (effects[-1].outcome.image_source, effects[-1].outcome.encoded_by_output_step) == ("c", True)


def test_a_step_that_was_passed_over_passes_its_input_on_still(three: Plan) -> None:
    over = StepOutcome(Status.SKIPPED, 3, failure=_BAD, skip_reason=SkipReason.FAILURE_SKIPPED, image_source=A)
    assert started(resume(three, {A: passed("a"), B: over})[1]) == [("c", 1, ["a"])]


def test_a_step_that_its_fallback_finished_is_finished(plan: Planner) -> None:
    helped = plan(
        step("a", "resize", on_failure=OnFailure.FALLBACK, fallback=Fallback(ComponentName("filter"))),
        step("b", "filter", "a"),
    )
    outcome = replace(passed("a", attempts=4), call=helped.steps[0].fallback)
    assert started(resume(helped, {A: outcome})[1]) == [("b", 1, ["a"])]


def test_a_step_that_had_failed_for_good_holds_back_what_depends_on_it(plan: Planner) -> None:
    branches = plan(step("a", "resize"), step("b", "filter", "a"), step("c", "resize"), output_step=C)
    state, effects = resume(branches, {A: StepOutcome(Status.FAILED, 1, failure=_BAD)})
    assert started(effects) == [("c", 1, [None])]
    _, effects = advance(state, AttemptSucceeded(C, 1))
    assert isinstance(effects[-1], Finished)
    assert (effects[-1].outcome.status, effects[-1].outcome.failure) == (Status.FAILED, _BAD)
    assert effects[-1].outcome.steps[B].because_of == A


def test_a_failed_step_that_is_left_out_runs_again(three: Plan) -> None:
    assert started(resume(three, {A: passed("a")})[1]) == [("b", 1, ["a"])]


def test_attempts_are_numbered_on_from_those_that_are_known(three: Plan) -> None:
    known = {A: StepOutcome(Status.RUNNING, attempts=3)}
    assert started(resume(three, known)[1]) == [("a", 4, [None])]


def test_a_finished_step_runs_again_when_its_image_is_lost_and_asked_for(three: Plan) -> None:
    known = {A: passed("a"), B: passed("b")}
    assert started(resume(three, known, lost={A})[1]) == [("c", 1, ["b"])]
    state, effects = resume(three, known, lost={B})
    assert started(effects) == [("b", 2, ["a"])]
    state, effects = resume(three, known, lost={A, B})
    assert started(effects) == [("a", 2, [None])]
    assert started(advance(state, AttemptSucceeded(A, 2))[1]) == [("b", 2, ["a"])]


def test_what_follows_a_finished_looker_waits_for_nothing_before_it(plan: Planner) -> None:
    looked = plan(step("a", "resize"), step("b", "look", "a"), step("c", "filter", "b", input_from={"image": ""}))
    state, effects = resume(looked, {B: passed("a")})
    assert started(effects) == [("a", 1, [None]), ("c", 1, [None])]
    state, _ = advance(state, AttemptSucceeded(C, 1))
    state, _ = advance(state, AttemptFailed(A, 1, _BAD))
    assert state.finished


def test_what_is_known_of_a_step_that_the_plan_does_not_have_is_an_error(three: Plan) -> None:
    with pytest.raises(KeyError):
        resume(three, {StepId("zz"): passed("zz")})


def test_an_image_that_no_unfinished_step_takes_is_released(three: Plan) -> None:
    _, effects = resume(three, {A: passed("a"), B: passed("b")})
    assert [effect for effect in effects if isinstance(effect, ReleaseOutput)] == [ReleaseOutput(A, 1)]


def test_an_image_is_there_while_one_step_still_reads_it_for_that_of_steps_that_had_passed_it_on(plan: Planner) -> None:
    branches = [step(name, "filter", "c") for name in "xyde"]
    wide = plan(step("a", "resize"), step("b", "filter", "a"), step("c", "filter", "b"), *branches, output_step=E)
    state, _ = resume(wide, {B: passed("a"), C: passed("a"), StepId("x"): passed("x"), StepId("y"): passed("y")})
    state, effects = advance(state, AttemptSucceeded(A, 1))
    assert started(effects) == [("d", 1, ["a"]), ("e", 1, ["a"])]
    state, effects = advance(state, AttemptSucceeded(D, 1))
    assert ReleaseOutput(A, 1) not in effects
    _, effects = advance(state, AttemptSucceeded(E, 1))
    assert ReleaseOutput(A, 1) in effects


def fail(state: ExecutionState, step_id: StepId, attempt: int) -> tuple[ExecutionState, tuple[Effect, ...]]:
    return advance(state, AttemptFailed(step_id, attempt, _LOST))


def test_a_hopeless_retry_ends_the_step_at_once_with_its_last_error(three: Plan) -> None:
    state, (retry,) = fail(begin(three)[0], A, 1)
    assert isinstance(retry, ScheduleRetry)
    state, effects = advance(state, RetryHopeless(A, retry.attempt))
    assert isinstance(effects[-1], Finished)
    assert effects[-1].outcome.failure == replace(_LOST, step_id=A)
    assert effects[-1].outcome.steps[A].attempts == 1
    assert advance(state, RetryDue(A, 2))[1] == ()


def test_a_hopeless_retry_leaves_the_fallback_its_chance(plan: Planner) -> None:
    helped = plan(step("a", "resize", on_failure=OnFailure.FALLBACK, fallback=Fallback(ComponentName("filter"))))
    state, _ = fail(begin(helped)[0], A, 1)
    state, effects = advance(state, RetryHopeless(A, 2))
    assert started(effects) == [("a", 2, [None])]
    assert advance(state, RetryHopeless(A, 2))[1] == ()


def test_a_hopeless_retry_lets_a_step_that_may_be_skipped_be_skipped(plan: Planner) -> None:
    skippable = plan(step("a", "resize", on_failure=OnFailure.SKIP), step("b", "filter", "a"))
    state, _ = fail(begin(skippable)[0], A, 1)
    assert started(advance(state, RetryHopeless(A, 2))[1]) == [("b", 1, [None])]


def test_an_execution_is_idle_while_only_retries_are_waited_for(plan: Planner) -> None:
    policy = RetryPolicy(max_retries=1, initial_delay=timedelta(seconds=30), max_delay=timedelta(minutes=5))
    state, _ = begin(plan(step("a", "resize", retry_policy=policy), step("b", "resize"), output_step=A))
    state, _ = fail(state, A, 1)
    assert not state.idle
    state, _ = advance(state, AttemptSucceeded(B, 1))
    assert state.idle
    state, _ = advance(state, RetryDue(A, 2))
    assert not state.idle
    state, _ = advance(state, AttemptSucceeded(A, 2))
    assert state.finished
    assert not state.idle


def test_a_finished_looker_stands_though_what_it_looked_at_is_lost(plan: Planner) -> None:
    """What takes its output takes the image when it has been made again."""
    looked = plan(step("a", "resize"), step("b", "look", "a"), step("c", "filter", "b"))
    state, effects = resume(looked, {B: passed("a")})
    assert started(effects) == [("a", 1, [None])]
    state, effects = advance(state, AttemptSucceeded(A, 1))
    assert started(effects) == [("c", 1, ["a"])]
    _, effects = advance(state, AttemptSucceeded(C, 1))
    assert isinstance(effects[-1], Finished)
    assert effects[-1].outcome.steps[B] == passed("a")


def test_what_follows_a_finished_looker_is_held_back_by_what_it_looked_at(plan: Planner) -> None:
    looked = plan(step("a", "resize"), step("b", "look", "a"), step("c", "filter", "b"))
    state, _ = resume(looked, {B: passed("a")})
    _, effects = advance(state, AttemptFailed(A, 1, _BAD))
    assert isinstance(effects[-1], Finished)
    assert effects[-1].outcome.steps[C].because_of == A
    assert effects[-1].outcome.steps[B].passed


def test_a_finished_looker_runs_again_where_its_own_answer_is_the_output_and_lost(plan: Planner) -> None:
    looked = plan(step("a", "resize"), step("b", "look", "a"))
    assert started(resume(looked, {A: passed("a"), B: passed("a")}, lost={B})[1]) == [("b", 2, ["a"])]
