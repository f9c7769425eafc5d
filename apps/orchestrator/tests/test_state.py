"""An execution goes from event to event, and each says what is to be done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageflow_orchestrator.component_spec import Catalog
from imageflow_orchestrator.definition import (
    ComponentName,
    Fallback,
    OnFailure,
    Persist,
    Pipeline,
    PipelineId,
    RetryPolicy,
    Step,
    StepId,
)
from imageflow_orchestrator.plan import Plan, plan_execution
from imageflow_orchestrator.state import (
    AttemptFailed,
    AttemptSucceeded,
    CancelAttempt,
    CancelRequested,
    Effect,
    Event,
    ExecutionOutcome,
    ExecutionTimedOut,
    Failure,
    Finished,
    ReleaseOutput,
    RetryDue,
    ScheduleRetry,
    SkipReason,
    StartAttempt,
    Status,
    StepOutcome,
    StepSettled,
    advance,
    begin,
)

E = TypeVar("E")
_LOST = Failure("UNAVAILABLE", "UNAVAILABLE", "connection lost", retryable=True)
_BAD = Failure("INVALID_ARGUMENT", "INVALID_IMAGE", "not an image")
_FILTER = Fallback(ComponentName("filter"))


def step(step_id: str, component: str = "filter", *dependencies: str, **options: Any) -> Step:
    return Step(StepId(step_id), ComponentName(component), dependencies=tuple(map(StepId, dependencies)), **options)


class Run:
    """An execution under way, and all its effects so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.state, effects = begin(plan)
        self.effects: list[Effect] = list(effects)

    def send(self, event: Event) -> tuple[Effect, ...]:
        self.state, effects = advance(self.state, event)
        self.effects += effects
        return effects

    def ok(self, step_id: str, attempt: int = 1, **options: Any) -> tuple[Effect, ...]:
        return self.send(AttemptSucceeded(StepId(step_id), attempt, **options))

    def bad(self, step_id: str, attempt: int = 1, failure: Failure = _BAD) -> tuple[Effect, ...]:
        return self.send(AttemptFailed(StepId(step_id), attempt, failure))

    def due(self, step_id: str, attempt: int) -> tuple[Effect, ...]:
        return self.send(RetryDue(StepId(step_id), attempt))

    def of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def outcome(self) -> ExecutionOutcome:
        (finished,) = self.of(Finished)
        return finished.outcome

    def step(self, step_id: str) -> StepOutcome:
        return self.outcome.steps[StepId(step_id)]

    def statuses(self) -> dict[str, str]:
        return {step_id: outcome.skip_reason or outcome.status for step_id, outcome in self.outcome.steps.items()}


def started(effects: tuple[Effect, ...]) -> list[str]:
    return [effect.step_id for effect in effects if isinstance(effect, StartAttempt)]


def released(effects: tuple[Effect, ...]) -> list[str]:
    return [effect.step_id for effect in effects if isinstance(effect, ReleaseOutput)]


@pytest.fixture(scope="session")
def run(catalog: Catalog) -> Callable[..., Run]:
    def start(*steps: Step, **options: Any) -> Run:
        return Run(plan_execution(Pipeline(PipelineId("p"), steps, **options), catalog=catalog))

    return start


def test_a_step_starts_when_all_before_it_have_succeeded(run: Callable[..., Run]) -> None:
    running = run(step("a"), step("b"), step("c", "blend", "a", input_from={"mask": "b"}))
    assert started(tuple(running.effects)) == ["a", "b"]
    assert started(running.ok("b")) == []
    assert started(running.ok("a")) == ["c"]
    start = running.of(StartAttempt)[-1]
    assert [(fed.slot, fed.source) for fed in start.inputs] == [("image", "a"), ("mask", "b")]
    running.ok("c", result="done")
    assert running.outcome.status is Status.COMPLETED
    assert (running.outcome.image_source, running.outcome.encoded_by_output_step) == ("c", True)
    assert running.step("c").result == "done"


def test_a_failure_that_may_pass_is_tried_again_after_its_delay(run: Callable[..., Run]) -> None:
    running = run(step("a"))
    (retry,) = running.bad("a", 1, _LOST)
    assert retry == ScheduleRetry(StepId("a"), 2, timedelta(seconds=0.05), 0.2, timedelta(0))
    assert started(running.due("a", 2)) == ["a"]
    (retry,) = running.bad("a", 2, _LOST)
    assert isinstance(retry, ScheduleRetry)
    assert retry.delay == timedelta(seconds=0.1)
    running.due("a", 3)
    running.bad("a", 3, _LOST)
    assert running.statuses() == {"a": "FAILED"}
    assert running.outcome.failure is not None
    assert (running.outcome.failure.step_id, running.step("a").attempts) == ("a", 3)


def test_a_failure_that_cannot_pass_is_never_tried_again(run: Callable[..., Run]) -> None:
    running = run(step("a"))
    running.bad("a")
    assert (running.statuses(), running.step("a").attempts) == ({"a": "FAILED"}, 1)


def test_a_delay_is_drawn_and_never_less_than_the_component_asked_for(run: Callable[..., Run]) -> None:
    asked = Failure("RESOURCE_EXHAUSTED", "OVERLOADED", "busy", retryable=True, retry_after=timedelta(seconds=2))
    (retry,) = run(step("a")).bad("a", 1, asked)
    assert isinstance(retry, ScheduleRetry)
    assert retry.drawn(0.5) == timedelta(seconds=2)
    plain = ScheduleRetry(StepId("a"), 2, timedelta(seconds=1), 0.2, timedelta(0))
    assert [plain.drawn(u) for u in (0, 1)] == [timedelta(seconds=1), timedelta(seconds=0.8)]


def test_independent_branches_go_on_after_a_failure(run: Callable[..., Run]) -> None:
    running = run(step("a"), step("b"), step("a2", "filter", "a"), step("a3", "filter", "a2"), output_step="b")
    running.bad("a")
    running.ok("b")
    assert running.statuses() == {
        "a": "FAILED",
        "b": "COMPLETED",
        "a2": "DEPENDENCY_FAILED",
        "a3": "DEPENDENCY_FAILED",
    }
    assert running.outcome.status is Status.FAILED
    assert running.step("a3").because_of == "a2"


def test_fail_fast_cancels_what_runs_and_starts_nothing_more(run: Callable[..., Run]) -> None:
    running = run(step("a"), step("b"), step("c"), step("b2", "filter", "b"), output_step="a", fail_fast=True)
    running.bad("c", 1, _LOST)
    effects = running.bad("a")
    assert [effect for effect in effects if isinstance(effect, CancelAttempt)] == [
        CancelAttempt(StepId("b"), 1),
        CancelAttempt(StepId("c"), 2),
    ]
    assert running.statuses() == {"a": "FAILED", "b": "CANCELLED", "c": "CANCELLED", "b2": "EXECUTION_ENDED"}
    assert running.outcome.status is Status.FAILED


def test_a_step_that_may_be_skipped_passes_its_input_on(run: Callable[..., Run]) -> None:
    running = run(step("a"), step("b", "filter", "a", on_failure=OnFailure.SKIP), step("c", "filter", "b"))
    running.ok("a")
    running.bad("b")
    assert running.of(StartAttempt)[-1].inputs[0].source == "a"
    running.ok("c")
    assert running.statuses() == {"a": "COMPLETED", "b": "FAILURE_SKIPPED", "c": "COMPLETED"}
    assert running.outcome.status is Status.COMPLETED
    assert running.step("b").failure is not None


def test_an_output_step_that_is_skipped_leaves_the_image_as_it_came(run: Callable[..., Run]) -> None:
    running = run(step("a"), step("b", "filter", "a", on_failure=OnFailure.SKIP))
    running.ok("a")
    running.bad("b")
    assert (running.outcome.image_source, running.outcome.encoded_by_output_step) == ("a", False)


def test_a_component_that_answers_no_image_passes_its_input_on(run: Callable[..., Run]) -> None:
    running = run(step("a"), step("b", "filter", "a"))
    running.ok("a", unchanged=True)
    assert running.of(StartAttempt)[-1].inputs[0].source is None


def test_a_fallback_has_tries_of_its_own_and_its_attempts_are_numbered_on(run: Callable[..., Run]) -> None:
    options = {"on_failure": OnFailure.FALLBACK, "fallback": _FILTER, "retry_policy": RetryPolicy(1)}
    running = run(step("a", "resize", **options))
    running.bad("a", 1, _LOST)
    running.due("a", 2)
    running.bad("a", 2, _LOST)
    start = running.of(StartAttempt)[-1]
    assert (start.attempt, start.call.component_name, start.is_fallback) == (3, "filter", True)
    running.bad("a", 3, _LOST)
    running.due("a", 4)
    running.ok("a", 4)
    assert running.statuses() == {"a": "COMPLETED"}
    call = running.step("a").call
    assert call is not None
    assert (call.component_name, running.step("a").attempts) == ("filter", 4)


def test_a_fallback_that_fails_fails_the_step(run: Callable[..., Run]) -> None:
    running = run(step("a", "resize", on_failure=OnFailure.FALLBACK, fallback=_FILTER))
    running.bad("a", 1)
    running.bad("a", 2)
    assert running.statuses() == {"a": "FAILED"}


def test_a_looker_whose_fallback_changes_the_image_hands_on_the_fallbacks(run: Callable[..., Run]) -> None:
    running = run(step("d", "look", on_failure=OnFailure.FALLBACK, fallback=_FILTER), step("f", "filter", "d"))
    running.bad("d", 1)
    running.ok("d", 2)
    assert running.of(StartAttempt)[-1].inputs[0].source == "d"


def test_what_runs_beside_a_looker_counts_only_when_the_looker_has_succeeded(run: Callable[..., Run]) -> None:
    running = run(step("r"), step("d", "look", "r"), step("f", "filter", "d"), step("g", "filter", "f"))
    assert started(running.ok("r")) == ["d", "f"]
    assert running.ok("f") == ()
    effects = running.ok("d")
    assert [effect.step_id for effect in effects if isinstance(effect, StepSettled)] == ["d", "f"]
    assert started(effects) == ["g"]


def test_a_looker_that_fails_takes_back_what_ran_beside_it(run: Callable[..., Run]) -> None:
    running = run(
        step("d", "look"),
        step("done", "filter", "d"),
        step("runs", "filter", "d"),
        step("waits", "filter", "d"),
        step("after", "filter", "done"),
        output_step="after",
    )
    running.ok("done")
    running.bad("waits", 1, _LOST)
    effects = running.bad("d")
    assert CancelAttempt(StepId("runs"), 1) in effects
    assert CancelAttempt(StepId("waits"), 2) in effects
    assert released(effects) == ["done"]
    assert running.statuses() == {
        "d": "FAILED",
        **dict.fromkeys(("done", "runs", "waits", "after"), "DEPENDENCY_FAILED"),
    }


def test_a_looker_that_may_be_skipped_lets_what_ran_beside_it_count(run: Callable[..., Run]) -> None:
    running = run(step("d", "look", on_failure=OnFailure.SKIP), step("f", "filter", "d"))
    running.ok("f")
    running.bad("d")
    assert running.statuses() == {"d": "FAILURE_SKIPPED", "f": "COMPLETED"}


def test_a_failure_beside_a_looker_counts_at_once(run: Callable[..., Run]) -> None:
    running = run(step("d", "look"), step("f", "filter", "d"))
    assert StepSettled in map(type, running.bad("f"))
    running.bad("d")
    assert running.statuses() == {"d": "FAILED", "f": "FAILED"}


def test_an_image_is_released_when_the_last_that_may_ask_for_it_has_settled(run: Callable[..., Run]) -> None:
    running = run(
        step("r"),
        step("x", "filter", "r"),
        step("y", "filter", "r"),
        step("z", "blend", "x", input_from={"mask": "y"}),
    )
    running.ok("r")
    assert released(running.ok("x")) == []
    assert released(running.ok("y")) == ["r"]
    assert sorted(released(running.ok("z"))) == ["x", "y"]


def test_an_image_is_kept_for_what_follows_a_looker_or_a_skipped_step(run: Callable[..., Run]) -> None:
    running = run(
        step("r"),
        step("d", "detect", "r"),
        step("s", "filter", "d", on_failure=OnFailure.SKIP),
        step("f", "filter", "s"),
        step("g", "filter", "f"),
    )
    running.ok("r")
    assert released(running.ok("d")) == released(running.bad("s")) == []
    assert released(running.ok("f")) == ["r"]
    assert released(running.ok("g")) == ["f"]


def test_an_image_that_is_kept_on_failure_or_is_the_output_is_not_released(run: Callable[..., Run]) -> None:
    running = run(step("a", persist=Persist.ON_FAILURE), step("b", "filter", "a"))
    running.ok("a")
    running.ok("b")
    assert running.of(ReleaseOutput) == []


def test_an_answer_that_nobody_waits_for_is_released_and_changes_nothing(run: Callable[..., Run]) -> None:
    running = run(step("a"), step("b", "filter", "a"))
    running.bad("a", 1, _LOST)
    assert running.ok("a", 1) == (ReleaseOutput(StepId("a"), 1),)
    running.due("a", 2)
    running.ok("a", 2)
    assert running.ok("a", 2) == ()
    assert running.bad("a", 2) == running.due("a", 3) == ()
    running.send(CancelRequested())
    assert running.ok("b") == (ReleaseOutput(StepId("b"), 1),)
    assert running.send(CancelRequested()) == running.send(ExecutionTimedOut()) == ()


def test_cancelling_stops_what_runs(run: Callable[..., Run]) -> None:
    running = run(step("a"), step("b"), step("c", "filter", "a"), output_step="c")
    running.ok("b")
    running.send(CancelRequested("enough"))
    assert running.statuses() == {"a": "CANCELLED", "b": "COMPLETED", "c": "EXECUTION_ENDED"}
    assert running.outcome.status is Status.CANCELLED
    assert running.outcome.failure is not None
    assert running.outcome.failure.message == "enough"


def test_when_time_is_over_what_runs_has_failed_with_its_last_error_or_for_time(
    run: Callable[..., Run],
) -> None:
    running = run(step("a"), step("b"), step("c", "filter", "a"), output_step="c")
    running.bad("b", 1, _LOST)
    running.send(ExecutionTimedOut())
    assert running.statuses() == {"a": "FAILED", "b": "FAILED", "c": "EXECUTION_ENDED"}
    failures = [running.step(name).failure for name in "ab"]
    assert [failure and failure.code for failure in failures] == ["DEADLINE_EXCEEDED", "UNAVAILABLE"]
    assert running.outcome.failure is not None
    assert running.outcome.failure.reason == "EXECUTION_TIMED_OUT"


def test_an_event_about_an_unknown_step_is_an_error(run: Callable[..., Run]) -> None:
    with pytest.raises(KeyError):
        run(step("a")).ok("zz")


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    steps: list[Step] = []
    for n in range(draw(st.integers(1, 9))):
        before = draw(st.lists(st.sampled_from([s.step_id for s in steps]), unique=True, max_size=3)) if steps else []
        on_failure = draw(st.sampled_from(OnFailure))
        steps.append(
            step(
                f"s{n}",
                draw(st.sampled_from(["resize", "look", "detect"])),
                *before,
                on_failure=on_failure,
                fallback=_FILTER if on_failure is OnFailure.FALLBACK else None,
                retry_policy=RetryPolicy(draw(st.integers(0, 2))),
            )
        )
    output = draw(st.sampled_from(steps)).step_id
    return Pipeline(PipelineId("p"), tuple(steps), output_step=output, fail_fast=draw(st.booleans()))


class Checked(Run):
    """Holds every promise to account as effects come."""

    def __init__(self, plan: Plan) -> None:
        self.steps = {planned.step_id: planned for planned in plan.steps}
        self.settled: dict[StepId, StepOutcome] = {}
        self.attempts = dict.fromkeys(self.steps, 0)
        self.open: list[Event] = []
        self.gone: set[StepId | None] = set()
        self.over = False
        super().__init__(plan)
        for effect in self.effects:
            self.check(effect)

    def send(self, event: Event) -> tuple[Effect, ...]:
        effects = super().send(event)
        for effect in effects:
            self.check(effect)
        return effects

    def check(self, effect: Effect) -> None:
        match effect:
            case StartAttempt(step_id, attempt, _, inputs):
                assert not self.over
                assert step_id not in self.settled
                assert attempt == self.attempts[step_id] + 1
                assert all(self.settled[before].passed for before in self.steps[step_id].start_after)
                assert not self.gone & {fed.source for fed in inputs}
                assert all(fed.source is None or self.settled[fed.source].passed for fed in inputs)
                self.attempts[step_id] = attempt
                self.open.append(AttemptSucceeded(step_id, attempt))
            case ScheduleRetry(step_id, attempt):
                assert attempt == self.attempts[step_id] + 1
                self.open.append(RetryDue(step_id, attempt))
            case StepSettled(step_id, outcome):
                assert not self.over
                assert step_id not in self.settled
                if outcome.passed:
                    assert all(self.settled[before].passed for before in self.steps[step_id].dependencies)
                self.settled[step_id] = outcome
            case ReleaseOutput(step_id, attempt):
                if step_id in self.settled and self.settled[step_id].attempts == attempt:
                    self.gone.add(step_id)
            case Finished(outcome):
                assert not self.over
                assert self.settled.keys() == self.steps.keys() == outcome.steps.keys()
                assert outcome.image_source not in self.gone or outcome.image_source is None
                self.over = True


@settings(max_examples=200, deadline=None)
@given(pipeline=pipelines(), data=st.data())
def test_whatever_happens_every_promise_holds(catalog: Catalog, pipeline: Pipeline, data: st.DataObject) -> None:
    running = Checked(plan_execution(pipeline, catalog=catalog))
    interrupted = data.draw(st.integers(0, 60))
    happened: list[Event] = []
    for turn in range(200):
        if not running.open:
            break
        if turn == interrupted:
            running.send(CancelRequested() if data.draw(st.booleans()) else ExecutionTimedOut())
        event = running.open.pop(data.draw(st.integers(0, len(running.open) - 1)))
        if isinstance(event, AttemptSucceeded):
            failure = data.draw(st.sampled_from([None, None, None, _LOST, _BAD]))
            event = AttemptFailed(event.step_id, event.attempt, failure) if failure else event
        running.send(event)
        happened.append(event)
        if data.draw(st.booleans()):
            running.send(data.draw(st.sampled_from(happened)))  # said twice, or late
    assert running.over
    outcome = running.outcome
    failed = [one for one in outcome.steps.values() if not one.passed]
    assert (outcome.status is Status.COMPLETED) == (not failed)
    for one in outcome.steps.values():
        if one.skip_reason is SkipReason.DEPENDENCY_FAILED:
            assert one.because_of is not None
            assert not outcome.steps[one.because_of].passed
