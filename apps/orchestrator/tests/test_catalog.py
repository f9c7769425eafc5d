"""The catalog is what the registry says, joined with what components say; nothing that they say stops it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from orchestrator_scripted import REGISTRY, Bench, ScriptedCaller, bench, description_of, eventually, lines, step

from imageflow.v1.component_pb2 import DescribeResponse
from imageflow_common.errors import ImageFlowError, InvalidParameters, InvalidPipeline, NotFound, Unavailable
from imageflow_orchestrator.app import watch_registry
from imageflow_orchestrator.catalog import LiveCatalog
from imageflow_orchestrator.registry import parse_registry
from imageflow_orchestrator.settings import OrchestratorSettings


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def changed(name: str = "filter", **fields: object) -> DescribeResponse:
    answer = DescribeResponse()
    answer.CopyFrom(description_of(name))
    for field, value in fields.items():
        if isinstance(value, list):
            answer.ClearField(field)
            getattr(answer, field).extend(value)
        else:
            setattr(answer, field, value)
    return answer


@asynccontextmanager
async def watching(catalog: LiveCatalog) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(catalog.watch())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_component_that_appears_is_known_soon(at: Bench) -> None:
    """R24"""
    at.caller.descriptions["a:filter"] = Unavailable("not there yet")
    catalog = LiveCatalog(at.catalog.registry, at.caller, at.transport.capability)
    async with watching(catalog):
        await eventually(lambda: catalog.missing() == ["filter"])
        with pytest.raises(Unavailable):
            catalog.component("filter")

        del at.caller.descriptions["a:filter"]

        await eventually(lambda: catalog.missing() == [])
        assert catalog.component("filter") is not None


async def test_a_component_that_disappears_is_missing_but_still_known(
    at: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    at.caller.descriptions["a:filter"] = Unavailable("gone")

    await at.catalog.refresh()
    await at.catalog.refresh()

    assert at.catalog.missing() == ["filter"]
    assert at.catalog.component("filter") is not None
    (line,) = lines(caplog, "component.unreachable")
    assert (line["component"], line["error_type"]) == ("filter", "UNAVAILABLE")


async def test_a_changed_description_is_taken_over_and_plans_are_made_anew(at: Bench) -> None:
    generation = at.catalog.generation
    await at.catalog.refresh()
    assert at.catalog.generation == generation

    at.caller.descriptions["a:filter"] = changed(versions=["1.0.0", "2.0.0"])
    await at.catalog.refresh()

    assert at.catalog.generation > generation
    assert at.plan(step("a")).steps[0].call.component_version == "2.0.0"


async def test_averages_alone_change_nothing(at: Bench) -> None:
    generation = at.catalog.generation
    answer = changed()
    answer.averages.requests = 5
    at.caller.descriptions["a:filter"] = answer

    await at.catalog.refresh()

    assert at.catalog.generation == generation
    filter_ = at.catalog.component("filter")
    assert filter_ is not None
    assert at.catalog.averages(filter_.versions[0].targets[0]).requests == 5


@pytest.mark.parametrize(
    "lie",
    [
        None,
        RuntimeError("a bug"),
        ImageFlowError("BAD_ANSWER"),
        changed(descriptor_set=b"\xff\xff"),
        changed(descriptor_set=b""),
        changed(
            descriptor_set=description_of("filter").descriptor_set[: -len(description_of("filter").descriptor_set) // 2]
        ),
        changed(parameters_message="imageflow.v1.Nothing"),
        changed(parameters_message="imageflow.v1.FilterServiceProcessRequest"),
        changed(metadata_message=""),
        changed(service_name="acme.v1.Nowhere"),
        changed(versions=[]),
        changed(versions=[""]),
        changed(input_slots=[]),
        changed(image_effect=DescribeResponse.WHEN_PARAMETER, image_effect_parameter="filterType"),
        DescribeResponse(),
    ],
    ids=lambda lie: "",
)
async def test_a_description_that_is_none_is_logged_and_what_was_known_stays(
    at: Bench, lie: DescribeResponse | Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    known = at.catalog.component("filter")
    at.caller.descriptions["a:filter"] = lie

    async with watching(at.catalog) as watch:
        await eventually(lambda: at.catalog.missing() == ["filter"])
        del at.caller.descriptions["a:filter"]
        await eventually(lambda: at.catalog.missing() == [])
        assert not watch.done()

    assert at.catalog.component("filter") == known
    assert len(lines(caplog, "component.unreachable")) == 1


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 0.0, 1e300])
async def test_a_time_that_is_none_becomes_the_default(at: Bench, seconds: float) -> None:
    answer = changed()
    answer.limits.timeout_seconds = seconds
    at.caller.descriptions["a:filter"] = answer

    await at.catalog.refresh()

    assert at.plan(step("a")).steps[0].call.timeout.total_seconds() == 30


async def test_each_version_is_described_by_the_targets_that_serve_it(at: Bench) -> None:
    """R24"""
    text = """
components:
  filter:
    targets: {default: {address: "a:filter", profile: large}}
    versions:
      "0.9.0": {targets: {default: {address: "old:filter", profile: large}}}
"""
    at.caller.descriptions["old:filter"] = changed("resize", component_name="filter", versions=["0.9.0"])
    catalog = LiveCatalog(parse_registry(text), at.caller, at.transport.capability)
    await catalog.refresh()
    generation = catalog.generation
    await catalog.refresh()

    spec = catalog.component("filter")
    assert spec is not None
    assert [version.version for version in spec.versions] == ["0.9.0", "1.0.0"]
    assert [version.targets[0].address for version in spec.versions] == ["old:filter", "a:filter"]
    assert catalog.description("filter", "0.9.0").method == "/imageflow.v1.ResizeService/Process"
    assert catalog.description("filter").method == "/imageflow.v1.FilterService/Process"
    assert catalog.generation == generation


async def test_a_reloaded_registry_adds_and_removes_components_and_changes_defaults(at: Bench) -> None:
    """R24"""
    registry = parse_registry(
        """
components:
  blur: {targets: {default: {address: "a:filter", profile: large}}}
  resize: {targets: {default: {address: "a:resize", profile: large}}, parameters: {width: 33}}
"""
    )

    at.catalog.replace_registry(registry)
    await at.catalog.refresh()

    assert at.plan(step("a", "resize")).steps[0].call.parameters["width"] == 33
    assert at.plan(step("a", "blur")).steps[0].call.component_name == "blur"
    with pytest.raises(InvalidPipeline):
        at.plan(step("a", "filter"))
    with pytest.raises(NotFound):
        at.catalog.description("filter")


@pytest.mark.parametrize(
    ("before", "after", "missing"),
    [("", "", []), ("profile: large", "profile: small", ["resize"])],
    ids=["read again as it was", "changed"],
)
async def test_a_component_is_available_only_when_it_is_known(
    at: Bench, monkeypatch: pytest.MonkeyPatch, before: str, after: str, missing: list[str]
) -> None:
    """Also where the registry is read again while a component answers; what is not known yet is asked for soon."""
    catalog = LiveCatalog(parse_registry(REGISTRY), at.caller, at.transport.capability)
    describe = type(at.caller).describe

    async def interrupted(caller: ScriptedCaller, *arguments: Any, **options: Any) -> DescribeResponse:
        answer = await describe(caller, *arguments, **options)
        catalog.replace_registry(parse_registry(REGISTRY.replace(before, after)))
        return answer

    monkeypatch.setattr(ScriptedCaller, "describe", interrupted)
    await catalog.refresh()
    assert [name for name in catalog.missing() if name == "resize"] == missing

    await catalog.refresh()
    assert catalog.missing() == []
    assert catalog.component("resize") is not None


async def test_a_registry_with_defaults_that_a_component_refuses_is_not_taken_over(at: Bench) -> None:
    registry = at.catalog.registry

    with pytest.raises(InvalidParameters):
        at.catalog.replace_registry(
            parse_registry(
                REGISTRY.replace(
                    '"a:resize", profile: large}}', '"a:resize", profile: large}}, parameters: {width: -1}'
                )
            )
        )

    assert at.catalog.registry is registry
    assert at.plan(step("a", "resize")).steps[0].call.parameters["width"] == 800


async def test_the_registry_file_is_watched_and_a_faulty_one_changes_nothing(
    at: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R24: it reloads without a restart."""
    path = tmp_path / "registry.yaml"
    path.write_text(REGISTRY)
    settings = OrchestratorSettings(registry_file=path, registry_poll_seconds=0.005)
    watch = asyncio.create_task(watch_registry(at.catalog, settings))
    await asyncio.sleep(0)  # it has read the file as it is
    try:
        for number, broken in enumerate((b"components: [", b"\xff\xfe", b"components: {x: {}}"), 1):
            await asyncio.to_thread(put, path, broken)
            await eventually(lambda wanted=number: len(lines(caplog, "registry.refused")) == wanted)  # type: ignore[misc]
        await asyncio.to_thread(path.unlink)
        await eventually(lambda: len(lines(caplog, "registry.refused")) > 3)
        assert list(at.catalog.registry.components) == ["resize", "filter", "detect"]
        assert "No such file" in at.catalog.registry_fault
        await asyncio.to_thread(put, path, REGISTRY.encode())
        await eventually(lambda: not at.catalog.registry_fault)

        more = REGISTRY + '  blur: {targets: {default: {address: "a:filter", profile: large}}}\n'
        await asyncio.to_thread(put, path, more.encode())

        await eventually(lambda: "blur" in at.catalog.registry.components and not at.catalog.missing())
        assert not watch.done()
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch


def put(path: Path, data: bytes) -> None:
    """Replaces a file at once, as Kubernetes does."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)
