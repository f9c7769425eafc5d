"""Whatever happens to whatever plan, the state machine says what the reference says and keeps its promises."""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from imageflow_orchestrator import state
from imageflow_orchestrator.component_spec import Catalog
from imageflow_orchestrator.effects import CancelRequested, ExecutionTimedOut, RetryDue, RetryHopeless

from .dag import planned, random_dag
from .drive import Drive, RandomDriver, Tally, some_noise, some_outcome

PROVE = os.environ.get("IMAGEFLOW_PROVE") == "1"
SHARE = float(os.environ.get("IMAGEFLOW_PROVE_SHARE") or 1)
BATCHES, BATCH = (max(1, round(100 * SHARE)), 1000) if PROVE else (4, 250)
EXAMPLES = max(100, round(3000 * SHARE)) if PROVE else 100


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_executions_come_to_what_the_reference_says(batch: int, catalog: Catalog) -> None:
    tally = Tally()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        random = Random(seed)
        try:
            tally.add(RandomDriver(Drive(state, *planned(random_dag(random), catalog)), random).run())
        except Exception as exc:
            exc.add_note(f"seed {seed}")
            raise
    assert all(tally.ends[status] > BATCH / 50 for status in ("COMPLETED", "FAILED", "CANCELLED"))
    assert tally.crashes > BATCH
    assert tally.events > 5 * BATCH


def executions(catalog: Catalog) -> type[RuleBasedStateMachine]:
    """One execution of a random plan; rules choose what happens next."""

    randoms = st.randoms(use_true_random=False)

    class Execution(RuleBasedStateMachine):
        drive: Drive

        @initialize(random=randoms)
        def begin(self, random: Random) -> None:
            self.drive = Drive(state, *planned(random_dag(random, largest=6), catalog))

        @precondition(lambda self: self.drive.ledger.running)
        @rule(data=st.data(), random=randoms, trouble=st.sampled_from([0.0, 0.5, 1.0]))
        def an_attempt_is_answered(self, data: st.DataObject, random: Random, trouble: float) -> None:
            key = data.draw(st.sampled_from(list(self.drive.ledger.running)))
            self.drive.tell(some_outcome(random, *key, trouble=trouble))

        @precondition(lambda self: self.drive.ledger.scheduled)
        @rule(data=st.data(), kind=st.sampled_from([RetryDue, RetryHopeless]))
        def a_retry_is_due_or_hopeless(self, data: st.DataObject, kind: type[RetryDue | RetryHopeless]) -> None:
            self.drive.tell(kind(*data.draw(st.sampled_from(list(self.drive.ledger.scheduled)))))

        @rule(random=randoms)
        def something_comes_twice_or_late(self, random: Random) -> None:
            event = some_noise(random, self.drive)
            if event is not None:
                self.drive.tell(event)

        @rule(random=randoms)
        def everything_crashes(self, random: Random) -> None:
            self.drive.crash(*self.drive.durable(random))

        @rule(event=st.sampled_from([CancelRequested("enough"), ExecutionTimedOut()]))
        def it_is_interrupted(self, event: CancelRequested | ExecutionTimedOut) -> None:
            self.drive.tell(event)

        def teardown(self) -> None:
            """Once every attempt has been answered, the execution has ended."""
            while hasattr(self, "drive") and (ledger := self.drive.ledger) and not ledger.finished:
                if ledger.running:
                    self.drive.tell(some_outcome(Random(0), *next(iter(ledger.running)), trouble=0.0))
                else:
                    self.drive.tell(RetryDue(*next(iter(ledger.scheduled))))

    return Execution


@pytest.mark.timeout(1200)
def test_any_sequence_of_events_comes_to_what_the_reference_says(catalog: Catalog) -> None:
    run_state_machine_as_test(
        executions(catalog),
        settings=settings(max_examples=EXAMPLES, stateful_step_count=30, deadline=None, derandomize=not PROVE),
    )
