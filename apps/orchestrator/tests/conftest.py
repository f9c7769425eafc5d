"""What many tests here stand on: a catalog of made-up components, a site, a served orchestrator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from orchestrator_executions import Site, site
from orchestrator_scripted import eventually
from orchestrator_served import Served, served

from imageflow_common.errors import Unavailable, Violation
from imageflow_orchestrator.component_spec import (
    ComponentSpec,
    ComponentVersion,
    ImageEffect,
    InputSlot,
    Target,
)
from imageflow_orchestrator.definition import ComponentName, JsonValue, SlotName
from imageflow_orchestrator.quantities import ResourceAmounts
from imageflow_orchestrator.registry import DEFAULT_PROFILES


class WholeNumbers:
    """A schema whose parameters are whole numbers or booleans with these defaults."""

    def __init__(self, **defaults: JsonValue) -> None:
        self._defaults = defaults

    def complete(self, given: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], list[Violation]]:
        values, violations = dict(self._defaults), []
        for name, value in given.items():
            head, *rest = name.replace("-", "_").split("_")
            canonical = head + "".join(part.title() for part in rest)
            if canonical not in self._defaults:
                violations.append(Violation(name, "unknown parameter"))
            elif not isinstance(value, int):
                violations.append(Violation(canonical, f"expected a whole number, got {value!r}"))
            else:
                values[canonical] = value
        return values, violations

    def encode(self, values: Mapping[str, JsonValue]) -> bytes:
        return json.dumps(dict(values), sort_keys=True).encode()


def _version(version: str, schema: WholeNumbers, **options: object) -> ComponentVersion:
    targets = options.pop("targets", (Target("default", "dns:///x:9090", DEFAULT_PROFILES["medium"]),))
    return ComponentVersion(version, schema, targets, timedelta(seconds=30), **options)  # type: ignore[arg-type]


def _spec(name: str, *versions: ComponentVersion) -> ComponentSpec:
    return ComponentSpec(ComponentName(name), versions)


_IMAGE = InputSlot(SlotName("image"))
_DETECT_TARGETS = (
    Target("gpu", "dns:///detect-gpu:9090", DEFAULT_PROFILES["gpu"]),
    Target("default", "dns:///detect:9090", DEFAULT_PROFILES["medium"]),
    Target("large", "dns:///detect-large:9090", DEFAULT_PROFILES["large"]),
)
_SPECS = {
    "resize": _spec(
        "resize",
        _version("1.0.0", WholeNumbers(width=800)),
        _version("1.1.0", WholeNumbers(width=800, maxHeight=600)),
    ),
    "filter": _spec("filter", _version("1.0.0", WholeNumbers(strength=1))),
    "detect": _spec(
        "detect",
        _version(
            "1.0.0",
            WholeNumbers(annotate=False),
            image_effect=ImageEffect.WHEN_PARAMETER,
            image_effect_parameter="annotate",
            targets=_DETECT_TARGETS,
        ),
    ),
    "look": _spec("look", _version("1.0.0", WholeNumbers(), image_effect=ImageEffect.LOOKS)),
    "blend": _spec(
        "blend",
        _version("1.0.0", WholeNumbers(), input_slots=(_IMAGE, InputSlot(SlotName("mask")))),
    ),
    "paint": _spec(
        "paint",
        _version("1.0.0", WholeNumbers(), input_slots=(_IMAGE, InputSlot(SlotName("mask"), optional=True))),
    ),
}
_ALIASES = {"ai-detection": "detect"}


class FakeCatalog:
    """`silent` components exist, but have not described themselves."""

    def __init__(self, *, silent: Iterable[str] = ()) -> None:
        self._silent = set(silent)

    @property
    def profiles(self) -> Mapping[str, ResourceAmounts]:
        return DEFAULT_PROFILES

    def names(self) -> Iterable[str]:
        return [*_SPECS, *_ALIASES]

    def component(self, name: str) -> ComponentSpec | None:
        if name in self._silent:
            raise Unavailable(f"{name} has not described itself")
        return _SPECS.get(_ALIASES.get(name, name))


@pytest.fixture(scope="session")
def catalog() -> FakeCatalog:
    return FakeCatalog()


@pytest.fixture(scope="session")
def catalog_without() -> Callable[..., FakeCatalog]:
    return lambda *silent: FakeCatalog(silent=silent)


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Served]:
    """No image is left in shared memory."""
    async with served(tmp_path) as made:
        yield made
        made.lock.opened.set()
        await eventually(lambda: made.files() == [])
