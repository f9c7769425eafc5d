"""The transitions of an execution. Each touches a step, those around it, and nothing else."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto

from .definition import OnFailure, Persist, StepId
from .effects import (
    AttemptFailed,
    AttemptSucceeded,
    CancelAttempt,
    Effect,
    ExecutionOutcome,
    Failure,
    Finished,
    ReleaseOutput,
    ResolvedInput,
    RetryDue,
    ScheduleRetry,
    SkipReason,
    StartAttempt,
    Status,
    StepOutcome,
    StepSettled,
)
from .planned import Plan, PlannedCall, PlannedStep


class _Phase(Enum):
    WAITING = auto()
    RUNNING = auto()
    BACKING_OFF = auto()
    ANSWERED = auto()
    SETTLED = auto()


@dataclass(slots=True, eq=False)
class _Track:
    """Where one step is. `missing` and `withheld` count the steps that it waits for to start, and to count.

    `attempt` is the last one started, `tries` those of `call`. `image` is whose own image its output is, as
    far as it is known. `takers` are those that may still ask for its output.
    """

    step: PlannedStep
    call: PlannedCall
    missing: int
    withheld: int
    takers: int = 0
    phase: _Phase = _Phase.WAITING
    attempt: int = 0
    tries: int = 0
    image: StepId | None = None
    holds_inputs: bool = True
    failure: Failure | None = None
    withheld_outcome: StepOutcome | None = None
    outcome: StepOutcome | None = None

    @property
    def in_fallback(self) -> bool:
        return self.call is self.step.fallback

    def inputs(self) -> tuple[StepId, ...]:
        """The steps whose output it may ask for, each once."""
        calls = (self.step.call, self.step.fallback)
        fed_by = [fed.step_id for call in calls if call for fed in call.inputs if fed.step_id is not None]
        return tuple(dict.fromkeys(fed_by))


class Machine:
    """One execution. Mutable: `effects` grows with each transition until `take_effects` empties it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._effects: list[Effect] = []
        self._to_settle: deque[tuple[_Track, StepOutcome]] = deque()
        self._unsettled = len(plan.steps)
        self._status = Status.COMPLETED
        self._failure: Failure | None = None
        self._reported = False
        self._tracks = {
            step.step_id: _Track(step, step.call, len(step.start_after), len(step.withheld_by)) for step in plan.steps
        }
        self._starts: defaultdict[StepId, list[_Track]] = defaultdict(list)
        self._frees: defaultdict[StepId, list[_Track]] = defaultdict(list)
        self._dependents: defaultdict[StepId, list[_Track]] = defaultdict(list)
        for track in self._tracks.values():
            self._connect(track)

    @property
    def finished(self) -> bool:
        return not self._unsettled

    def take_effects(self) -> tuple[Effect, ...]:
        effects = tuple(self._effects)
        self._effects.clear()
        return effects

    def start_roots(self) -> None:
        for track in self._tracks.values():
            if not track.missing:
                self._start(track)

    def succeed(self, event: AttemptSucceeded) -> None:
        track = self._tracks[event.step_id]
        if not _is_current(track, event.attempt):
            self._refuse_late(track, event)
            return
        if track.call.changes_image and not event.unchanged:
            track.image = event.step_id
        self._answer(track, self._outcome(track, Status.COMPLETED, result=event.result))
        self._settle_all()

    def fail(self, event: AttemptFailed) -> None:
        track = self._tracks[event.step_id]
        if not _is_current(track, event.attempt):
            return
        track.failure = replace(event.failure, step_id=event.step_id)
        if event.failure.retryable and track.tries <= track.step.retry.max_retries:
            self._back_off(track, event.failure.retry_after)
        elif track.step.fallback is not None and not track.in_fallback:
            track.call, track.tries = track.step.fallback, 0
            self._start(track)
        else:
            self._give_up(track)
            self._settle_all()

    def retry(self, event: RetryDue) -> None:
        track = self._tracks[event.step_id]
        if track.phase is _Phase.BACKING_OFF and event.attempt == track.attempt + 1:
            self._start(track)

    def time_out(self) -> None:
        """Running steps fail with the execution, unless their last attempt says why already."""
        if self.finished:
            return
        over = Failure("DEADLINE_EXCEEDED", "EXECUTION_TIMED_OUT", "the time for the execution is over")
        self._blame(over)
        for track in self._unsettled_tracks():
            if track.phase is _Phase.RUNNING:
                track.failure = replace(over, step_id=track.step.step_id)
            self._conclude(track, self._ended(track, Status.FAILED))
        self._finish()

    def cancel(self, message: str) -> None:
        if self.finished:
            return
        self._status = Status.CANCELLED
        self._failure = Failure("CANCELLED", "CANCELLED", message)
        self._end_the_rest()
        self._finish()

    def _connect(self, track: _Track) -> None:
        step = track.step
        for other in step.start_after:
            self._starts[other].append(track)
        for other in step.withheld_by:
            self._frees[other].append(track)
        for other in step.dependencies:
            self._dependents[other].append(track)
        for other in track.inputs():
            self._tracks[other].takers += 1
        track.takers += step.is_output
        track.takers += step.persist is Persist.ON_FAILURE

    def _start(self, track: _Track) -> None:
        track.phase = _Phase.RUNNING
        track.attempt += 1
        track.tries += 1
        track.image = self._image_of(track.call.passes_on)
        inputs = tuple(ResolvedInput(fed.slot, fed.position, self._image_of(fed.step_id)) for fed in track.call.inputs)
        self._effects.append(StartAttempt(track.step.step_id, track.attempt, track.call, inputs, track.in_fallback))

    def _image_of(self, step_id: StepId | None) -> StepId | None:
        return None if step_id is None else self._tracks[step_id].image

    def _back_off(self, track: _Track, retry_after: timedelta | None) -> None:
        track.phase = _Phase.BACKING_OFF
        retry = track.step.retry
        self._effects.append(
            ScheduleRetry(
                track.step.step_id,
                track.attempt + 1,
                retry.delay(track.tries),
                retry.jitter,
                retry_after or timedelta(0),
            )
        )

    def _give_up(self, track: _Track) -> None:
        if track.step.on_failure is OnFailure.SKIP:
            outcome = self._outcome(track, Status.SKIPPED, skip_reason=SkipReason.FAILURE_SKIPPED)
            self._answer(track, outcome)
            return
        track.phase = _Phase.ANSWERED
        self._to_settle.append((track, self._outcome(track, Status.FAILED)))

    def _answer(self, track: _Track, outcome: StepOutcome) -> None:
        """The step may pass, once all that it ran beside has passed."""
        track.phase = _Phase.ANSWERED
        if track.withheld:
            track.withheld_outcome = outcome
        else:
            self._to_settle.append((track, outcome))

    def _settle_all(self) -> None:
        while self._to_settle:
            track, outcome = self._to_settle.popleft()
            if track.phase is _Phase.SETTLED:
                continue
            self._conclude(track, outcome)
            if outcome.passed:
                self._let_others_go_on(track)
            else:
                self._hold_others_back(track)
        if self._failure is not None and self._plan.fail_fast:
            self._end_the_rest()
        self._finish()

    def _let_others_go_on(self, track: _Track) -> None:
        for follower in self._frees[track.step.step_id]:
            follower.withheld -= 1
            if not follower.withheld and follower.withheld_outcome is not None:
                self._to_settle.append((follower, follower.withheld_outcome))
        for follower in self._starts[track.step.step_id]:
            follower.missing -= 1
            if not follower.missing and follower.phase is _Phase.WAITING:
                self._start(follower)

    def _hold_others_back(self, track: _Track) -> None:
        if track.outcome and track.outcome.status is Status.FAILED and track.failure:
            self._blame(track.failure)
        for follower in self._dependents[track.step.step_id]:
            skipped = self._outcome(
                follower,
                Status.SKIPPED,
                skip_reason=SkipReason.DEPENDENCY_FAILED,
                because_of=track.step.step_id,
            )
            self._to_settle.append((follower, skipped))

    def _conclude(self, track: _Track, outcome: StepOutcome) -> None:
        """Settles one step, looking at no other but to release images."""
        if track.phase in (_Phase.RUNNING, _Phase.BACKING_OFF):
            scheduled = track.phase is _Phase.BACKING_OFF
            self._effects.append(CancelAttempt(track.step.step_id, track.attempt + scheduled))
        track.phase = _Phase.SETTLED
        track.outcome = outcome
        track.withheld_outcome = None
        self._unsettled -= 1
        self._effects.append(StepSettled(track.step.step_id, outcome))
        self._let_go(track)

    def _let_go(self, track: _Track) -> None:
        """Releases what no step may ask for any more, from a settled step back to where images came from."""
        loose = [track]
        while loose:
            track = loose.pop()
            outcome = track.outcome
            if outcome is None:
                continue
            own = track.image == track.step.step_id
            wanted = outcome.passed and track.takers > 0
            if own and not wanted:
                self._effects.append(ReleaseOutput(track.step.step_id, track.attempt))
                track.image = None
            if track.holds_inputs and (own or not wanted):
                track.holds_inputs = False
                loose.extend(self._drop(step_id) for step_id in track.inputs())

    def _drop(self, step_id: StepId) -> _Track:
        track = self._tracks[step_id]
        track.takers -= 1
        return track

    def _refuse_late(self, track: _Track, event: AttemptSucceeded) -> None:
        """An answer that nobody waits for is released, unless it is the one that counted, said again."""
        counted = track.outcome or track.withheld_outcome
        repeated = counted is not None and counted.status is Status.COMPLETED and event.attempt == track.attempt
        if not repeated:
            self._effects.append(ReleaseOutput(event.step_id, event.attempt))

    def _end_the_rest(self) -> None:
        for track in self._unsettled_tracks():
            self._conclude(track, self._ended(track, Status.CANCELLED))

    def _ended(self, track: _Track, status: Status) -> StepOutcome:
        """What a step comes to that the execution's end finds unsettled; `status` if it was running."""
        if track.phase in (_Phase.RUNNING, _Phase.BACKING_OFF):
            return self._outcome(track, status)
        return self._outcome(track, Status.SKIPPED, skip_reason=SkipReason.EXECUTION_ENDED)

    def _unsettled_tracks(self) -> Iterator[_Track]:
        return (track for track in self._tracks.values() if track.phase is not _Phase.SETTLED)

    def _blame(self, failure: Failure) -> None:
        """The first failure is the execution's."""
        if self._failure is None:
            self._status, self._failure = Status.FAILED, failure

    def _outcome(
        self,
        track: _Track,
        status: Status,
        *,
        result: object = None,
        skip_reason: SkipReason | None = None,
        because_of: StepId | None = None,
    ) -> StepOutcome:
        passed = status is Status.COMPLETED or skip_reason is SkipReason.FAILURE_SKIPPED
        blamed = status in (Status.FAILED, Status.CANCELLED) or skip_reason is SkipReason.FAILURE_SKIPPED
        return StepOutcome(
            status=status,
            attempts=track.attempt,
            call=track.call if track.attempt else None,
            result=result,
            failure=track.failure if blamed else None,
            skip_reason=skip_reason,
            because_of=because_of,
            image_source=track.image if passed else None,
        )

    def _finish(self) -> None:
        if self._unsettled or self._reported:
            return
        self._reported = True
        outcomes = {step_id: track.outcome for step_id, track in self._tracks.items() if track.outcome}
        output = outcomes[self._plan.output.step_id]
        completed = self._status is Status.COMPLETED
        outcome = ExecutionOutcome(
            status=self._status,
            steps=outcomes,
            failure=self._failure,
            image_source=output.image_source if completed else None,
            encoded_by_output_step=completed and output.status is Status.COMPLETED,
        )
        self._effects.append(Finished(outcome))


def _is_current(track: _Track, attempt: int) -> bool:
    return track.phase is _Phase.RUNNING and attempt == track.attempt
