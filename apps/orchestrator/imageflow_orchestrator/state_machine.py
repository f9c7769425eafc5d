"""The transitions of an execution. Each touches a step, those around it, and nothing else."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from .definition import OnFailure, StepId
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
    RetryHopeless,
    ScheduleRetry,
    SkipReason,
    StartAttempt,
    Status,
    StepOutcome,
    StepSettled,
)
from .planned import Plan, PlannedStep
from .state_resume import Standing, starts_after
from .state_track import Phase, Track, feeding


class Machine:
    """One execution. Mutable: `effects` grows with each transition until `take_effects` empties it.

    `stands` is what stands of an earlier run (nothing, for a new execution).
    """

    def __init__(self, plan: Plan, stands: Standing) -> None:
        self._plan = plan
        self._adopted = stands.outcomes
        self._feeding = stands.feeding
        self._effects: list[Effect] = []
        self._to_settle: deque[tuple[Track, StepOutcome]] = deque()
        self._loose: list[Track] = []
        self._unsettled = len(plan.steps)
        self._running = 0
        self._status = Status.COMPLETED
        self._failure: Failure | None = None
        self._tracks = {step.step_id: Track(step, step.call, self._held_inputs(step)) for step in plan.steps}
        self._starts: defaultdict[StepId, list[Track]] = defaultdict(list)
        self._frees: defaultdict[StepId, list[Track]] = defaultdict(list)
        self._dependents: defaultdict[StepId, list[Track]] = defaultdict(list)
        for step_id, waited_for in starts_after(plan, stands.outcomes).items():
            self._connect(self._tracks[step_id], waited_for)

    @property
    def finished(self) -> bool:
        return not self._unsettled

    @property
    def idle(self) -> bool:
        return not self._running and not self.finished

    def take_effects(self) -> tuple[Effect, ...]:
        effects = tuple(self._effects)
        self._effects.clear()
        return effects

    def number_from(self, attempts: Mapping[StepId, int]) -> None:
        """The next attempts are numbered on from these."""
        for step_id, attempt in attempts.items():
            self._tracks[step_id].attempt = attempt

    def go_on(self) -> None:
        """Settles what is adopted as it was settled before, telling nobody again, and starts what may start."""
        adopted = [self._adopt(self._tracks[step_id], outcome) for step_id, outcome in self._adopted.items()]
        for track in adopted:
            if track.passed:
                self._unblocked_by(track)
            else:
                self._hold_others_back(track)
        self._settle_all()
        for track in self._tracks.values():
            if track.phase is Phase.WAITING and not track.missing:
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
        else:
            self._stop_trying(track)

    def retry(self, event: RetryDue) -> None:
        track = self._tracks[event.step_id]
        if track.phase is Phase.BACKING_OFF and event.attempt == track.attempt + 1:
            self._start(track)

    def stop_retries(self, event: RetryHopeless) -> None:
        track = self._tracks[event.step_id]
        if track.phase is Phase.BACKING_OFF and event.attempt == track.attempt + 1:
            self._stop_trying(track)

    def time_out(self) -> None:
        """Running steps fail with the execution, unless their last attempt says why already."""
        if self.finished:
            return
        over = Failure("DEADLINE_EXCEEDED", "EXECUTION_TIMED_OUT", "the time for the execution is over")
        self._blame(over)
        for track in self._unsettled_tracks():
            if track.phase is Phase.RUNNING:
                track.failure = replace(over, step_id=track.step.step_id)
            self._conclude(track, self._ended(track, Status.FAILED))
        self._wind_up()

    def cancel(self, message: str) -> None:
        if self.finished:
            return
        self._status = Status.CANCELLED
        self._failure = Failure("CANCELLED", "CANCELLED", message)
        self._end_the_rest()
        self._wind_up()

    def _adopt(self, track: Track, outcome: StepOutcome) -> Track:
        track.call, track.failure = outcome.call or track.call, outcome.failure
        own = outcome.image_source == track.step.step_id
        track.image = track.step.step_id if own else self._image_of(track.call.passes_on)
        self._settle(track, outcome)
        return track

    def _connect(self, track: Track, waited_for: Collection[StepId]) -> None:
        step = track.step
        track.missing, track.withheld = len(waited_for), len(step.withheld_by)
        for other in waited_for:
            self._starts[other].append(track)
        for other in step.withheld_by:
            self._frees[other].append(track)
        for other in step.dependencies:
            self._dependents[other].append(track)
        for other in track.held_inputs:
            self._tracks[other].takers += 1
        track.takers += step.is_output

    def _enter(self, track: Track, phase: Phase) -> None:
        self._running += (phase is Phase.RUNNING) - (track.phase is Phase.RUNNING)
        track.phase = phase

    def _start(self, track: Track) -> None:
        self._enter(track, Phase.RUNNING)
        track.attempt += 1
        track.tries += 1
        track.image = self._image_of(track.call.passes_on)
        inputs = tuple(ResolvedInput(fed.slot, fed.position, self._image_of(fed.step_id)) for fed in track.call.inputs)
        self._effects.append(StartAttempt(track.step.step_id, track.attempt, track.call, inputs, track.in_fallback))

    def _image_of(self, step_id: StepId | None) -> StepId | None:
        fed_by = self._feeding(step_id)
        return None if fed_by is None else self._tracks[fed_by].image

    def _held_inputs(self, step: PlannedStep) -> tuple[StepId, ...]:
        fed_by = (self._taken_from(step, step_id) for step_id in feeding(step))
        return tuple(dict.fromkeys(step_id for step_id in fed_by if step_id is not None))

    def _taken_from(self, step: PlannedStep, step_id: StepId | None) -> StepId | None:
        """Whose output a step takes for that of another one: an adopted step took it as the plan says."""
        return step_id if step.step_id in self._adopted else self._feeding(step_id)

    def _back_off(self, track: Track, retry_after: timedelta | None) -> None:
        self._enter(track, Phase.BACKING_OFF)
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

    def _stop_trying(self, track: Track) -> None:
        """Turns to the fallback; without one, or after it, the step has failed for good."""
        if track.step.fallback is not None and not track.in_fallback:
            track.call, track.tries = track.step.fallback, 0
            self._start(track)
        else:
            self._give_up(track)
            self._settle_all()

    def _give_up(self, track: Track) -> None:
        if track.step.on_failure is OnFailure.SKIP:
            outcome = self._outcome(track, Status.SKIPPED, skip_reason=SkipReason.FAILURE_SKIPPED)
            self._answer(track, outcome)
            return
        self._enter(track, Phase.ANSWERED)
        self._to_settle.append((track, self._outcome(track, Status.FAILED)))

    def _answer(self, track: Track, outcome: StepOutcome) -> None:
        """The step may pass, once all that it ran beside has passed."""
        self._enter(track, Phase.ANSWERED)
        if track.withheld:
            track.withheld_outcome = outcome
        else:
            self._to_settle.append((track, outcome))

    def _settle_all(self) -> None:
        while self._to_settle:
            track, outcome = self._to_settle.popleft()
            if track.phase is Phase.SETTLED:
                continue
            self._conclude(track, outcome)
            if not outcome.passed:
                self._hold_others_back(track)
                continue
            for follower in self._unblocked_by(track):
                self._start(follower)
        if self._failure is not None and self._plan.fail_fast:
            self._end_the_rest()
        self._wind_up()

    def _unblocked_by(self, track: Track) -> list[Track]:
        """Counts the step for all that wait for it; answers those that may start now."""
        for follower in self._frees[track.step.step_id]:
            follower.withheld -= 1
            if not follower.withheld and follower.withheld_outcome is not None:
                self._to_settle.append((follower, follower.withheld_outcome))
        waiting = self._starts[track.step.step_id]
        for follower in waiting:
            follower.missing -= 1
        return [follower for follower in waiting if not follower.missing and follower.phase is Phase.WAITING]

    def _hold_others_back(self, track: Track) -> None:
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

    def _conclude(self, track: Track, outcome: StepOutcome) -> None:
        """Settles one step, looking at no other."""
        if track.phase in (Phase.RUNNING, Phase.BACKING_OFF):
            scheduled = track.phase is Phase.BACKING_OFF
            self._effects.append(CancelAttempt(track.step.step_id, track.attempt + scheduled))
        self._settle(track, outcome)
        self._effects.append(StepSettled(track.step.step_id, outcome))

    def _settle(self, track: Track, outcome: StepOutcome) -> None:
        self._enter(track, Phase.SETTLED)
        track.outcome = outcome
        track.withheld_outcome = None
        self._unsettled -= 1
        self._loose.append(track)

    def _wind_up(self) -> None:
        self._release_loose()
        self._report()

    def _release_loose(self) -> None:
        """Releases what no step may ask for any more, from settled steps back to where images came from.

        Only when all that follows from the event has been settled: what runs beside a looker that fails reads
        the looker's input until it is cancelled.
        """
        while self._loose:
            track = self._loose.pop()
            if track.outcome is None:
                continue
            own = track.has_own_image
            if own and not track.wanted:
                self._effects.append(ReleaseOutput(track.step.step_id, track.attempt))
                track.image = None
            passed_on = self._taken_from(track.step, track.call.passes_on) if track.wanted and not own else None
            dropped = [step_id for step_id in track.held_inputs if step_id != passed_on]
            track.held_inputs = track.held_inputs[:0] if passed_on is None else (passed_on,)
            for step_id in dropped:
                self._tracks[step_id].takers -= 1
                self._loose.append(self._tracks[step_id])

    def _refuse_late(self, track: Track, event: AttemptSucceeded) -> None:
        """An answer that nobody waits for is released, unless it is the one that counted, said again."""
        counted = track.outcome or track.withheld_outcome
        repeated = counted is not None and counted.status is Status.COMPLETED and event.attempt == track.attempt
        if not repeated:
            self._effects.append(ReleaseOutput(event.step_id, event.attempt))

    def _end_the_rest(self) -> None:
        for track in self._unsettled_tracks():
            self._conclude(track, self._ended(track, Status.CANCELLED))

    def _ended(self, track: Track, status: Status) -> StepOutcome:
        """What a step comes to that the execution's end finds unsettled; `status` if it was running."""
        if track.phase in (Phase.RUNNING, Phase.BACKING_OFF):
            return self._outcome(track, status)
        return self._outcome(track, Status.SKIPPED, skip_reason=SkipReason.EXECUTION_ENDED)

    def _unsettled_tracks(self) -> Iterator[Track]:
        return (track for track in self._tracks.values() if track.phase is not Phase.SETTLED)

    def _blame(self, failure: Failure) -> None:
        """The first failure is the execution's."""
        if self._failure is None:
            self._status, self._failure = Status.FAILED, failure

    def _outcome(
        self,
        track: Track,
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

    def _report(self) -> None:
        if self._unsettled:
            return
        outcomes = {step_id: track.outcome for step_id, track in self._tracks.items() if track.outcome}
        output = outcomes[self._plan.output.step_id]
        completed = self._status is Status.COMPLETED
        outcome = ExecutionOutcome(
            status=self._status,
            steps=outcomes,
            failure=self._failure,
            image_source=self._tracks[self._plan.output.step_id].image if completed else None,
            encoded_by_output_step=completed and output.status is Status.COMPLETED,
        )
        self._effects.append(Finished(outcome))


def _is_current(track: Track, attempt: int) -> bool:
    return track.phase is Phase.RUNNING and attempt == track.attempt
