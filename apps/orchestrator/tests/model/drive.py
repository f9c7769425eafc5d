"""Drives one random execution through the state machine, the reference and the ledger at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Protocol

from imageflow_orchestrator.definition import StepId
from imageflow_orchestrator.effects import (
    AttemptFailed,
    AttemptSucceeded,
    CancelAttempt,
    CancelRequested,
    Effect,
    Event,
    ExecutionTimedOut,
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
from imageflow_orchestrator.planned import Plan

from .dag import Dag
from .ledger import Ledger
from .reference import Kind, Reference, Said, Verdict, counted


class State(Protocol):
    @property
    def finished(self) -> bool: ...
    @property
    def idle(self) -> bool: ...


class Api(Protocol):
    """The state machine's module, or a copy of it."""

    def begin(self, plan: Plan) -> tuple[State, tuple[Effect, ...]]: ...
    def advance(self, state: State, event: Event) -> tuple[State, tuple[Effect, ...]]: ...
    def resume(
        self, plan: Plan, known: Mapping[StepId, StepOutcome], *, lost: Collection[StepId] = ()
    ) -> tuple[State, tuple[Effect, ...]]: ...


_KINDS: dict[tuple[Status, SkipReason | None], Kind] = {
    (Status.COMPLETED, None): "COMPLETED",
    (Status.SKIPPED, SkipReason.FAILURE_SKIPPED): "SKIPPED_OVER",
    (Status.SKIPPED, SkipReason.DEPENDENCY_FAILED): "HELD_BACK",
    (Status.SKIPPED, SkipReason.EXECUTION_ENDED): "ENDED",
    (Status.FAILED, None): "FAILED",
    (Status.CANCELLED, None): "CANCELLED",
    (Status.RUNNING, None): "CANCELLED",  # known of an earlier run, and not final
}


@dataclass
class Tally:
    """What the drivers have seen."""

    executions: int = 0
    events: int = 0
    crashes: int = 0
    ends: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.executions += other.executions
        self.events += other.events
        self.crashes += other.crashes
        for status, count in other.ends.items():
            self.ends[status] = self.ends.get(status, 0) + count


class Drive:
    """One execution under way. Every method makes something happen, and asserts what comes of it."""

    def __init__(self, api: Api, dag: Dag, plan: Plan) -> None:
        self.api, self.dag, self.plan = api, dag, plan
        self.tally = Tally(executions=1)
        self.history: list[Event] = []
        self.reference = Reference(dag)
        self.ledger = Ledger(plan, {}, {}, ())
        self.state, effects = api.begin(plan)
        self._compare(effects, self.reference.first)

    def tell(self, event: Event) -> None:
        self.tally.events += 1
        self.history.append(event)
        self.ledger.event(event)
        self.state, effects = self.api.advance(self.state, event)
        self._compare(effects, self._refer(event))

    def crash(self, known: Mapping[StepId, StepOutcome], lost: frozenset[StepId]) -> None:
        """Drops the state, and goes on from what is known."""
        self.tally.crashes += 1
        self.history.clear()
        self.reference = Reference(
            self.dag, {step_id: self._verdict(step_id, outcome) for step_id, outcome in known.items()}, lost
        )
        adopted = {step_id: outcome for step_id, outcome in known.items() if step_id in self.reference.adopted}
        self.ledger = Ledger(self.plan, adopted, {step_id: one.attempts for step_id, one in known.items()}, lost)
        self.state, effects = self.api.resume(self.plan, known, lost=lost)
        self._compare(effects, self.reference.first)

    def durable(self, random: Random) -> tuple[dict[StepId, StepOutcome], frozenset[StepId]]:
        """What a crash leaves: some of the outcomes, of other steps perhaps their attempts, and some images."""
        written, forgotten = random.choice([0.5, 0.9, 1.0]), random.choice([0.0, 0.2, 0.7])
        known = {step_id: one for step_id, one in self.ledger.settled.items() if random.random() < written}
        for step_id, attempt in self.ledger.started:
            if step_id not in known and random.random() < 0.5:
                known[step_id] = StepOutcome(Status.RUNNING, attempts=attempt)
        lost = frozenset(step_id for step_id in known if random.random() < forgotten)
        return known, lost

    def _compare(self, effects: tuple[Effect, ...], expected: list[Said]) -> None:
        self.ledger.effects(effects, idle=self.state.idle, finished=self.state.finished)
        said = counted([self._plainly(effect) for effect in effects])
        wanted = counted(expected)
        assert said == wanted, f"too much: {list(said - wanted)}; missing: {list(wanted - said)}"
        assert self.state.idle == self.reference.idle
        if self.ledger.finished and any(isinstance(effect, Finished) for effect in effects):
            status = str(self.ledger.finished.outcome.status)
            self.tally.ends[status] = self.tally.ends.get(status, 0) + 1

    def _refer(self, event: Event) -> list[Said]:
        match event:
            case AttemptSucceeded(step_id, attempt, result, unchanged):
                return self.reference.success(step_id, attempt, result, unchanged=unchanged)
            case AttemptFailed(step_id, attempt, failure):
                after = failure.retry_after.total_seconds() if failure.retry_after else 0.0
                return self.reference.failure(
                    step_id, attempt, failure.reason, retryable=failure.retryable, retry_after=after
                )
            case RetryDue(step_id, attempt):
                return self.reference.due(step_id, attempt)
            case RetryHopeless(step_id, attempt):
                return self.reference.hopeless(step_id, attempt)
            case ExecutionTimedOut():
                return self.reference.time_out()
            case CancelRequested(message):
                return self.reference.cancel(message)

    def _plainly(self, effect: Effect) -> Said:
        """The effect in the reference's words."""
        match effect:
            case StartAttempt(step_id, attempt, _, inputs, is_fallback):
                assert [fed.position for fed in inputs] == list(range(len(inputs)))
                return ("start", step_id, attempt, is_fallback, tuple(fed.source for fed in inputs))
            case ScheduleRetry(step_id, attempt, delay, jitter, at_least):
                seconds, least = round(delay.total_seconds(), 9), at_least.total_seconds()
                return ("schedule", step_id, attempt, seconds, jitter, least)
            case CancelAttempt(step_id, attempt):
                return ("cancel", step_id, attempt)
            case ReleaseOutput(step_id, attempt):
                return ("release", step_id, attempt)
            case StepSettled(step_id, outcome):
                return ("settle", step_id, self._verdict(step_id, outcome))
            case Finished(outcome):
                error = None
                if outcome.failure is not None:
                    cancelled = outcome.status is Status.CANCELLED
                    error = outcome.failure.message if cancelled else outcome.failure.reason
                return ("finish", str(outcome.status), error, outcome.image_source, outcome.encoded_by_output_step)

    def _verdict(self, step_id: StepId, outcome: StepOutcome) -> Verdict:
        step = next(step for step in self.plan.steps if step.step_id == step_id)
        if outcome.failure is not None:
            assert outcome.failure.step_id == step_id
        return Verdict(
            kind=_KINDS[outcome.status, outcome.skip_reason],
            attempts=outcome.attempts,
            in_fallback=None if outcome.call is None else outcome.call is step.fallback,
            result=outcome.result,
            error=outcome.failure.reason if outcome.failure else None,
            image=outcome.image_source,
        )


class RandomDriver:
    """Lets things happen at random until the execution has ended, and a little longer."""

    def __init__(self, drive: Drive, random: Random) -> None:
        self._drive, self._random = drive, random
        self._crashes_left = random.choice([0, 0, 1, 2])
        self._trouble = random.choice([0.1, 0.3, 0.6])
        self._interruption = random.choice([0.0, 0.0, 0.1])

    def run(self) -> Tally:
        self._go_to_the_end()
        if self._random.random() < 0.5:
            self._crash()  # before the end was written
            self._go_to_the_end()
        self._resume_what_has_ended()
        return self._drive.tally

    def _go_to_the_end(self) -> None:
        for _ in range(400):
            if self._drive.ledger.finished:
                break
            self._turn()
        assert self._drive.ledger.finished, "it does not come to an end"
        for _ in range(self._random.randint(0, 4)):
            self._noise()

    def _turn(self) -> None:
        chance = self._random.random()
        if chance < 0.15:
            self._noise()
        elif chance < 0.20 and self._crashes_left:
            self._crash()
        elif chance > 1 - self._interruption:
            self._drive.tell(self._random.choice([ExecutionTimedOut(), CancelRequested("enough")]))
        else:
            self._answer()

    def _answer(self) -> None:
        """Something that is under way comes to its end."""
        ledger = self._drive.ledger
        step_id, attempt = self._random.choice([*ledger.running, *ledger.scheduled])
        if (step_id, attempt) in ledger.scheduled:
            kind = RetryHopeless if self._random.random() < 0.15 else RetryDue
            self._drive.tell(kind(step_id, attempt))
        else:
            self._drive.tell(some_outcome(self._random, step_id, attempt, trouble=self._trouble))

    def _noise(self) -> None:
        event = some_noise(self._random, self._drive)
        if event is not None:
            self._drive.tell(event)

    def _crash(self) -> None:
        self._crashes_left -= 1
        self._drive.crash(*self._drive.durable(self._random))

    def _resume_what_has_ended(self) -> None:
        """With every outcome known and no image lost, nothing that passed or failed starts again."""
        settled = self._drive.ledger.settled
        self._drive.crash(settled, frozenset())
        for step_id, _ in self._drive.ledger.started:
            assert not settled[step_id].passed
            assert settled[step_id].status is not Status.FAILED


def some_outcome(random: Random, step_id: StepId, attempt: int, *, trouble: float) -> Event:
    if random.random() > trouble:
        return AttemptSucceeded(step_id, attempt, f"{step_id}/{attempt}", unchanged=random.random() < 0.2)
    after = random.choice([None, None, timedelta(seconds=5), timedelta(milliseconds=1)])
    retryable = random.random() < 0.7
    failure = Failure("UNAVAILABLE", f"error {attempt} of {step_id}", "lost", retryable, after)
    return AttemptFailed(step_id, attempt, failure)


def some_noise(random: Random, drive: Drive) -> Event | None:
    """An event that comes twice, late, early, or after it was called off."""
    ledger = drive.ledger
    choices: list[Event] = []
    if drive.history:
        choices.append(random.choice(drive.history))
    done = [key for key in ledger.started if key not in ledger.running]
    if done:
        step_id, attempt = random.choice(done)
        choices.append(some_outcome(random, step_id, attempt, trouble=0.5))
        choices.append(RetryDue(step_id, attempt + random.randint(0, 1)))
        choices.append(RetryHopeless(step_id, attempt))
    if ledger.cancelled:
        step_id, attempt = random.choice(ledger.cancelled)
        choices.append(some_outcome(random, step_id, attempt, trouble=0.3))
        choices.append(RetryDue(step_id, attempt))
    if not choices:
        return None
    event = random.choice(choices)
    scheduled = isinstance(event, RetryDue) and (event.step_id, event.attempt) in ledger.scheduled
    return None if scheduled and random.random() < 0.5 else event
