"""The promises that hold whatever a plan looks like, checked from effects and events alone, in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from imageflow_orchestrator.definition import StepId
from imageflow_orchestrator.effects import (
    AttemptFailed,
    AttemptSucceeded,
    CancelAttempt,
    Effect,
    Event,
    Finished,
    ReleaseOutput,
    RetryDue,
    RetryHopeless,
    ScheduleRetry,
    StartAttempt,
    Status,
    StepOutcome,
    StepSettled,
)
from imageflow_orchestrator.planned import Plan, PlannedStep

_Attempt = tuple[StepId, int]


class Ledger:
    """One execution. `adopted` are the outcomes taken over from an earlier run, `attempts` its last numbers, and
    `lost` the steps whose own image is gone."""

    def __init__(
        self,
        plan: Plan,
        adopted: Mapping[StepId, StepOutcome],
        attempts: Mapping[StepId, int],
        lost: Collection[StepId],
    ) -> None:
        self.plan = plan
        self.steps: dict[StepId, PlannedStep] = {step.step_id: step for step in plan.steps}
        self.running: dict[_Attempt, StartAttempt] = {}
        self.scheduled: dict[_Attempt, ScheduleRetry] = {}
        self.cancelled: list[_Attempt] = []
        self.started: list[_Attempt] = []
        self.settled = dict(adopted)
        self._adopted = frozenset(adopted)
        self.finished: Finished | None = None
        self._gone = frozenset(lost).intersection(adopted)
        self._last = {step.step_id: attempts.get(step.step_id, 0) for step in plan.steps}
        self._tries: Counter[tuple[StepId, bool]] = Counter()
        self._succeeded: set[StepId] = set()
        self._answered: Counter[_Attempt] = Counter(
            (step_id, outcome.attempts) for step_id, outcome in adopted.items() if outcome.image_source == step_id
        )
        self._released: Counter[_Attempt] = Counter()

    def event(self, event: Event) -> None:
        """Something is about to be told."""
        match event:
            case AttemptSucceeded(step_id, attempt):
                self._answered[step_id, attempt] += 1
                if self.running.pop((step_id, attempt), None):
                    self._succeeded.add(step_id)
            case AttemptFailed(step_id, attempt):
                self.running.pop((step_id, attempt), None)
            case RetryDue(step_id, attempt) | RetryHopeless(step_id, attempt):
                self.scheduled.pop((step_id, attempt), None)

    def effects(self, effects: tuple[Effect, ...], *, idle: bool, finished: bool) -> None:
        """What was answered to the event."""
        for effect in effects:
            assert self.finished is None or isinstance(effect, ReleaseOutput), f"after the end: {effect}"
            self._effect(effect)
        assert finished == (self.finished is not None)
        assert self.finished or self.running or self.scheduled, "nothing is under way, and the end has not come"
        assert idle == (not self.running and not finished)
        failed = any(outcome.status is Status.FAILED for outcome in self.settled.values())
        assert not (failed and self.plan.fail_fast and not finished), "a failure did not end it at once"

    def _effect(self, effect: Effect) -> None:
        match effect:
            case StartAttempt():
                self._start(effect)
            case ScheduleRetry(step_id, attempt):
                assert attempt == self._last[step_id] + 1
                self.scheduled[step_id, attempt] = effect
            case CancelAttempt(step_id, attempt):
                owned = self.running.pop((step_id, attempt), None) or self.scheduled.pop((step_id, attempt), None)
                assert owned, f"cancelled, but not under way: {effect}"
                self.cancelled.append((step_id, attempt))
            case StepSettled():
                self._settle(effect)
            case ReleaseOutput():
                self._release(effect)
            case Finished():
                self._finish(effect)

    def _start(self, start: StartAttempt) -> None:
        step = self.steps[start.step_id]
        assert start.step_id not in self.settled, "started, but settled"
        assert start.step_id not in self._succeeded, "started again after it had succeeded"
        assert not [key for key in (*self.running, *self.scheduled) if key[0] == start.step_id], "two at once"
        assert start.attempt == self._last[start.step_id] + 1, "attempts are numbered one by one"
        assert start.call is (step.fallback if start.is_fallback else step.call)
        for need in step.dependencies:
            assert self._may_be_built_on(need), f"{start.step_id} started before {need} had passed"
        for fed in start.inputs:
            assert fed.source is None or self.settled[fed.source].passed, "an input is not final"
            assert fed.source is None or self._has_image(fed.source), "an input is gone"
        self._last[start.step_id] = start.attempt
        self._tries[start.step_id, start.is_fallback] += 1
        assert self._tries[start.step_id, start.is_fallback] <= step.retry.max_retries + 1, "too many retries"
        self.running[start.step_id, start.attempt] = start
        self.started.append((start.step_id, start.attempt))

    def _may_be_built_on(self, need: StepId) -> bool:
        """It has passed, or it only looks and is under way."""
        if need in self.settled:
            return self.settled[need].passed
        looker = self.steps[need]
        return looker.only_looks and looker.fallback is None and self._tries[need, False] > 0

    def _settle(self, effect: StepSettled) -> None:
        step_id, outcome = effect.step_id, effect.outcome
        assert step_id not in self.settled, "settled twice"
        assert outcome.status not in (Status.PENDING, Status.RUNNING)
        assert not [key for key in (*self.running, *self.scheduled) if key[0] == step_id], "settled and under way"
        assert outcome.attempts == self._last[step_id]
        if outcome.passed:
            for need in self.steps[step_id].dependencies:
                assert self.settled[need].passed, f"{step_id} passed before {need}"
        if outcome.because_of is not None:
            assert self._rests_on(step_id, outcome.because_of)
            assert not self.settled[outcome.because_of].passed
        self.settled[step_id] = outcome

    def _rests_on(self, step_id: StepId, other: StepId) -> bool:
        """Whether a step depends on another: by itself, or through steps that had finished before the crash."""
        needs = self.steps[step_id].dependencies
        return other in needs or any(need in self._adopted and self._rests_on(need, other) for need in needs)

    def _release(self, effect: ReleaseOutput) -> None:
        key = (effect.step_id, effect.attempt)
        self._released[key] += 1
        assert self._released[key] <= self._answered[key], f"released, but not held: {effect}"
        if self._last[effect.step_id] == effect.attempt:
            read = {fed.source for start in self.running.values() for fed in start.inputs}
            assert effect.step_id not in read, "released while a step reads it"

    def _has_image(self, step_id: StepId) -> bool:
        key = (step_id, self._last[step_id])
        return step_id not in self._gone and self._answered[key] > 0 and not self._released[key]

    def _finish(self, effect: Finished) -> None:
        outcome = effect.outcome
        assert not self.running, "an attempt is left running"
        assert not self.scheduled, "a retry is left scheduled"
        assert dict(outcome.steps) == self.settled, "the end differs from what was said before"
        assert list(outcome.steps) == list(self.steps)
        assert (outcome.failure is None) == (outcome.status is Status.COMPLETED)
        if outcome.status is Status.COMPLETED:
            assert all(one.passed for one in outcome.steps.values())
            assert outcome.image_source is None or self._has_image(outcome.image_source), "the output is gone"
        self.finished = effect
