"""Plans by what was asked for: a definition in hand, a stored one, or one component alone; cached where it can be."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

from imageflow.v1.pipeline_pb2 import Pipeline
from imageflow_common.errors import InvalidArgument, InvalidPipeline, Unavailable, Violation
from imageflow_common.schema import JsonValue, Text

from . import definition
from .catalog import LiveCatalog, find_component
from .definition import ComponentName, PipelineId, StepId
from .definitions import Definitions
from .messages import read_pipeline
from .plan import SYNCHRONOUS, Plan, PlanDefaults, plan_execution

_CACHED_PLANS = 256
_STORED_TTL_SECONDS = 1.0
"""How long another orchestrator's change of a stored definition may go unseen."""

K = TypeVar("K")
V = TypeVar("V")


class _Cache(Generic[K, V]):
    """The values used last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        if (value := self._values.get(key)) is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> V:
        self._values[key] = value
        if len(self._values) > self._size:
            self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        self._values.clear()


@dataclass(frozen=True, slots=True)
class _Stored:
    """`content` tells it from another definition under the same version: one may be deleted and stored anew."""

    pipeline: Pipeline
    content: bytes
    expires: float


class Planner:
    """Makes plans against the catalog as it is."""

    def __init__(self, catalog: LiveCatalog, definitions: Definitions) -> None:
        self._catalog = catalog
        self._definitions = definitions
        self._plans: _Cache[tuple[object, ...], Plan] = _Cache(_CACHED_PLANS)
        self._stored: _Cache[tuple[str, str], _Stored] = _Cache(_CACHED_PLANS)

    def given(
        self,
        pipeline: Pipeline,
        overrides: Mapping[str, JsonValue],
        faults: Sequence[Violation] = (),
        *,
        stored: bool = False,
        defaults: PlanDefaults = SYNCHRONOUS,
    ) -> Plan:
        """As `plan_given`, against this planner's catalog."""
        return plan_given(pipeline, self._catalog, overrides, faults, stored=stored, defaults=defaults)

    async def stored(self, pipeline_id: str, version: str, assignments: Sequence[str]) -> Plan:
        """The plan of a stored definition, with `stepId.parameter=value` assignments. Raises NotFound."""
        held = await self._held(pipeline_id, version)
        key = ("stored", held.content, *assignments, self._catalog.generation)
        if (plan := self._plans.get(key)) is not None:
            return plan
        return self._plans.put(key, self.given(held.pipeline, read_assignments(assignments)))

    async def definition(self, pipeline_id: str, version: str) -> Pipeline:
        """A stored definition; the newest version unless one is named. Raises NotFound."""
        return (await self._held(pipeline_id, version)).pipeline

    async def _held(self, pipeline_id: str, version: str) -> _Stored:
        held = self._stored.get((pipeline_id, version))
        if held is not None and held.expires > monotonic():
            return held
        pipeline = await self._definitions.get(pipeline_id, version)
        content = pipeline.SerializeToString(deterministic=True)
        return self._stored.put((pipeline_id, version), _Stored(pipeline, content, monotonic() + _STORED_TTL_SECONDS))

    def component(self, name: str, version: str, assignments: Sequence[str]) -> Plan:
        """The plan of one component alone, whose step has its name. Raises NotFound for an unknown component."""
        key = ("component", name, version, *assignments, self._catalog.generation)
        if (plan := self._plans.get(key)) is not None:
            return plan
        component = find_component(self._catalog, name).name
        step = definition.Step(
            StepId(component), ComponentName(component), version or None, parameters=read_assignments(assignments)
        )
        pipeline = definition.Pipeline(PipelineId(component), (step,))
        return self._plans.put(key, plan_execution(pipeline, catalog=self._catalog))

    def forget(self) -> None:
        """Stored definitions have changed."""
        self._stored.clear()
        self._plans.clear()


def plan_given(
    pipeline: Pipeline,
    catalog: LiveCatalog,
    overrides: Mapping[str, JsonValue],
    faults: Sequence[Violation] = (),
    *,
    stored: bool = False,
    defaults: PlanDefaults = SYNCHRONOUS,
) -> Plan:
    """The plan of a definition in hand. Raises InvalidPipeline with `faults`, found earlier, and all others."""
    try:
        plan = plan_execution(
            read_pipeline(pipeline), catalog=catalog, overrides=overrides, defaults=defaults, stored=stored
        )
    except InvalidPipeline as exc:
        raise _invalid([*faults, *exc.violations]) from exc
    except Unavailable as exc:
        if faults:
            raise _invalid(faults) from exc
        raise
    if faults:
        raise _invalid(faults)
    return plan


def read_assignments(assignments: Sequence[str]) -> dict[str, JsonValue]:
    """`name=value` texts, as in a query. Raises InvalidArgument for one without a name, or a name given twice."""
    values: dict[str, JsonValue] = {}
    violations: list[Violation] = []
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            violations.append(Violation("set", f"expected name=value, got {assignment[:100]!r}"))
        elif name in values:
            violations.append(Violation("set", f"{name[:100]!r} is given twice"))
        else:
            values[name] = Text(value)
    if violations:
        raise InvalidArgument("an assignment is not one", violations=violations)
    return values


def _invalid(violations: Sequence[Violation]) -> InvalidPipeline:
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    place = f"{first.field}: " if first.field else ""
    return InvalidPipeline(f"{place}{first.description}{more}", violations=violations)
