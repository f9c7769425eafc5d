"""What an event costs depends on the steps around it, and not on how many there are besides."""

from __future__ import annotations

import inspect
import sys
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from imageflow_orchestrator import state as state_machine
from imageflow_orchestrator.component_spec import Catalog
from imageflow_orchestrator.definition import ComponentName, Pipeline, PipelineId, Step, StepId
from imageflow_orchestrator.effects import AttemptSucceeded, StartAttempt, StepSettled
from imageflow_orchestrator.plan import Plan, plan_execution

from .drive import Api
from .faults import MODULES, Fault, copied

_LOOKS_AT_ALL = Fault(
    "every event looks at every step",
    "state_machine",
    "        self._release_loose()\n        self._report()\n",
    "        self._release_loose()\n        list(self._unsettled_tracks())\n        self._report()\n",
)


class LineCount:
    """Counts the lines of the state machine that run in it; each turn of a loop counts anew."""

    def __init__(self, api: Api) -> None:
        folder = Path(inspect.getfile(api.begin)).parent
        self._sources = {str(folder / f"{module}.py") for module in MODULES}
        self.lines = 0

    def __enter__(self) -> LineCount:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_exc: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _arg: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in self._sources:
            return None
        self.lines += 1
        return self._trace


def step(name: str, component: str, needs: Collection[str]) -> Step:
    return Step(StepId(name), ComponentName(component), dependencies=tuple(map(StepId, needs)))


def chain(size: int) -> list[Step]:
    return [step(f"s{n}", "filter", [f"s{n - 1}"] if n else []) for n in range(size)]


def fan(size: int) -> list[Step]:
    middle = [step(f"s{n}", "filter", ["first"]) for n in range(size - 2)]
    return [step("first", "filter", []), *middle, step("last", "filter", [one.step_id for one in middle])]


def lookers(size: int) -> list[Step]:
    return [step(f"s{n}", "look" if n else "filter", [f"s{n - 1}"] if n else []) for n in range(size)]


def alone(size: int) -> list[Step]:
    return [step(f"s{n}", "filter", []) for n in range(size)]


@dataclass(frozen=True)
class Spent:
    """Lines: of the beginning, and of each event but the last, with the number of steps that it started or settled
    and of those next to them."""

    begun: int
    events: list[tuple[int, int]]

    def per_step(self, plan: Plan) -> float:
        return (self.begun + sum(lines for lines, _ in self.events)) / len(plan.steps)

    def bounded(self) -> bool:
        """Whether each event visited only the steps that it concerned and their neighbours."""
        return all(lines <= 100 + 50 * concerned for lines, concerned in self.events)


def spent(api: Api, plan: Plan) -> Spent:
    """Everything succeeds in the order in which it started."""
    near = neighbourhoods(plan)
    with LineCount(api) as count:
        state, effects = api.begin(plan)
    begun, events = count.lines, []
    waiting = deque(one for one in effects if isinstance(one, StartAttempt))
    while waiting:
        start = waiting.popleft()
        with LineCount(api) as count:
            state, effects = api.advance(state, AttemptSucceeded(start.step_id, start.attempt))
        concerned = {start.step_id} | {one.step_id for one in effects if isinstance(one, StartAttempt | StepSettled)}
        if not state.finished:
            events.append((count.lines, sum(near[step_id] for step_id in concerned)))
        waiting += [one for one in effects if isinstance(one, StartAttempt)]
    assert state.finished
    return Spent(begun, events)


def neighbourhoods(plan: Plan) -> Counter[StepId]:
    """How many steps are next to each, itself among them."""
    near = Counter(planned.step_id for planned in plan.steps)
    for planned in plan.steps:
        others = {*planned.dependencies, *planned.start_after}
        near.update(others)
        near[planned.step_id] += len(others)
    return near


@pytest.fixture(params=[chain, fan, lookers, alone], ids=lambda shape: shape.__name__)
def plans(request: pytest.FixtureRequest, catalog: Catalog) -> tuple[Plan, Plan]:
    """The same shape with fifty steps and with a thousand."""

    def plan(size: int) -> Plan:
        steps = tuple(request.param(size))
        return plan_execution(Pipeline(PipelineId("p"), steps, output_step=steps[-1].step_id), catalog=catalog)

    return plan(50), plan(1000)


def test_an_event_visits_only_what_it_concerns_in_a_plan_of_any_size(plans: tuple[Plan, Plan]) -> None:
    small, large = (spent(state_machine, plan) for plan in plans)
    assert small.bounded()
    assert large.bounded()
    assert large.per_step(plans[1]) <= 1.1 * small.per_step(plans[0])


def test_a_look_at_every_step_would_be_found(plans: tuple[Plan, Plan], folder: Path) -> None:
    assert not spent(copied(folder, _LOOKS_AT_ALL), plans[1]).bounded()
