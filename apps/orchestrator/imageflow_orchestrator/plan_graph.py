"""Which step waits for which. Steps are known by their place in the definition, since ids may be wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .definition import PIPELINE_INPUT, SlotName, Step, StepId
from .faults import Faults, clipped, listed, quoted

_SHOWN_IN_CYCLE = 10


@dataclass(frozen=True, slots=True)
class Graph:
    """What each step waits for.

    `written[i]` are the dependencies of step i as written; `dependencies[i]` those and what `inputFrom` names
    besides: naming a step there is depending on it. `sources[i]` is what feeds each slot, None for the
    pipeline's input. `order` has every step after its dependencies, otherwise as written; it is empty when
    there is a fault.
    """

    written: Sequence[tuple[int, ...]]
    dependencies: Sequence[tuple[int, ...]]
    sources: Sequence[Mapping[SlotName, int | None]]
    order: tuple[int, ...]

    def sinks(self) -> list[int]:
        """The steps that nothing depends on, as written."""
        followed = {dependency for step in self.dependencies for dependency in step}
        return [place for place in range(len(self.dependencies)) if place not in followed]


def read_graph(steps: Sequence[Step], paths: Sequence[str], places: Mapping[StepId, int], faults: Faults) -> Graph:
    """Reads `dependencies` and `inputFrom`; unknown steps, repetitions and cycles are faults."""
    before = len(faults.violations)
    written = [_read_dependencies(place, steps[place], paths[place], places, faults) for place in range(len(steps))]
    sources = [_read_sources(place, steps[place], paths[place], places, faults) for place in range(len(steps))]
    dependencies = [
        tuple(dict.fromkeys([*listed_ones, *(fed for fed in feeds.values() if fed is not None)]))
        for listed_ones, feeds in zip(written, sources, strict=True)
    ]
    order = _in_order(dependencies)
    if len(order) < len(steps):
        _report_cycles(set(range(len(steps))).difference(order), dependencies, steps, paths, faults)
    faultless = len(faults.violations) == before and len(places) == len(steps)
    return Graph(written, dependencies, sources, tuple(order) if faultless else ())


def _read_dependencies(
    place: int, step: Step, path: str, places: Mapping[StepId, int], faults: Faults
) -> tuple[int, ...]:
    read: dict[int, None] = {}
    for number, dependency in enumerate(step.dependencies):
        found = _find(dependency, place, f"{path}.dependencies[{number}]", places, faults)
        if found is None:
            continue
        if found in read:
            faults.add(f"{path}.dependencies[{number}]", f"{quoted(dependency)} is named twice")
        read[found] = None
    return tuple(read)


def _read_sources(
    place: int, step: Step, path: str, places: Mapping[StepId, int], faults: Faults
) -> dict[SlotName, int | None]:
    read: dict[SlotName, int | None] = {}
    for slot, source in step.input_from.items():
        found = None
        if source != PIPELINE_INPUT:
            found = _find(source, place, f"{path}.inputFrom.{clipped(slot)}", places, faults)
        read[slot] = found
    return read


def _find(step_id: StepId, asking: int, path: str, places: Mapping[StepId, int], faults: Faults) -> int | None:
    found = places.get(step_id)
    if found is None:
        faults.add(path, f"there is no step {quoted(step_id)}{faults.suggest(step_id, places)}")
    elif found == asking:
        faults.add(path, "a step cannot depend on itself")
        return None
    return found


def _in_order(dependencies: Sequence[tuple[int, ...]]) -> list[int]:
    """Kahn's algorithm; steps on a cycle or after one are left out."""
    followers: list[list[int]] = [[] for _ in dependencies]
    missing = [len(step) for step in dependencies]
    for place, step in enumerate(dependencies):
        for dependency in step:
            followers[dependency].append(place)
    ready = deque(place for place, count in enumerate(missing) if not count)
    order: list[int] = []
    while ready:
        place = ready.popleft()
        order.append(place)
        for follower in followers[place]:
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    return order


def _report_cycles(
    left: set[int],
    dependencies: Sequence[tuple[int, ...]],
    steps: Sequence[Step],
    paths: Sequence[str],
    faults: Faults,
) -> None:
    """Every walk back through what is left ends in a cycle: each that is met is reported once."""
    walked: set[int] = set()
    for start in sorted(left):
        walk: dict[int, int] = {}
        place = start
        while place not in walked and place not in walk:
            walk[place] = len(walk)
            place = next(dependency for dependency in dependencies[place] if dependency in left)
        if place in walk:
            cycle = list(walk)[walk[place] :]
            names = [clipped(steps[member].step_id) for member in [cycle[0], *reversed(cycle)]]
            faults.add(f"{paths[cycle[0]]}.dependencies", f"the steps wait for each other: {_drawn(names)}")
        walked.update(walk)


def _drawn(names: list[str]) -> str:
    if len(names) > _SHOWN_IN_CYCLE:
        names = [*names[: _SHOWN_IN_CYCLE - 2], f"… {len(names) - _SHOWN_IN_CYCLE + 1} more …", names[-1]]
    return " → ".join(names)


def choose_output(
    graph: Graph,
    output_step: StepId | None,
    steps: Sequence[Step],
    places: Mapping[StepId, int],
    faults: Faults,
) -> int | None:
    """The step whose output is the pipeline's: the one named, else the only sink. None: there is a fault."""
    if output_step:
        if output_step not in places:
            sentence = f"there is no step {quoted(output_step)}{faults.suggest(output_step, places)}"
            faults.add("outputStep", sentence)
        return places.get(output_step)
    if not graph.order:
        return None
    sinks = graph.sinks()
    if len(sinks) > 1:
        names = listed([steps[sink].step_id for sink in sinks])
        faults.add("outputStep", f"nothing follows {names}; name the one whose output is the pipeline's")
        return None
    return sinks[0]
