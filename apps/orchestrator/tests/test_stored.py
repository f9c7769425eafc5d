"""Definitions and records as the store keeps them, and the plans made of definitions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from orchestrator_scripted import Bench, bench

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.pipeline_pb2 import Pipeline, Step
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import AlreadyExists, DataLoss, InvalidArgument, InvalidPipeline, NotFound, WriteConflict
from imageflow_common.keys import definition_key, index_key, newest_key, record_key
from imageflow_common.store import ObjectKey
from imageflow_common.store_local import LocalStore
from imageflow_orchestrator.definitions import Definitions
from imageflow_orchestrator.planner import Planner, read_assignments
from imageflow_orchestrator.records import Records, now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalStore]:
    made = LocalStore(tmp_path / "store")
    yield made
    await made.close()


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def definition(version: str = "1", pipeline_id: str = "p", name: str = "P", component: str = "resize") -> Pipeline:
    return Pipeline(
        pipeline_id=pipeline_id,
        version=version,
        pipeline_name=name,
        steps=[Step(step_id="a", component_name=component)],
    )


def record(execution_id: str = "e", *, after: int = 0, namespace: str = "default") -> ExecutionRecord:
    made = ExecutionRecord()
    made.execution.MergeFrom(Execution(execution_id=execution_id, namespace=namespace, status=Execution.RUNNING))
    made.execution.create_time.FromDatetime(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=after))
    return made


async def versions(definitions: Definitions, pipeline_id: str = "p") -> list[str]:
    found, _ = await definitions.versions(pipeline_id, page_size=100, page_token=None)
    return [summary.version for summary in found]


async def test_a_definition_is_answered_as_it_was_stored(store: LocalStore) -> None:
    definitions = Definitions(store)

    assert await definitions.create(definition()) == definition()
    assert await definitions.get("p", "1") == definition()


async def test_the_same_definition_again_is_fine_and_another_is_refused(store: LocalStore) -> None:
    definitions = Definitions(store)
    await definitions.create(definition())

    assert await definitions.create(definition()) == definition()
    with pytest.raises(AlreadyExists) as caught:
        await definitions.create(definition(name="Q"))

    assert caught.value.reason == "PIPELINE_EXISTS"
    assert await versions(definitions) == ["1"]


async def test_the_newest_version_is_the_one_stored_last(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    definitions, clock = Definitions(store), now()
    for number, version in enumerate(("2", "10", "1")):
        at = clock + timedelta(seconds=number)
        monkeypatch.setattr("imageflow_orchestrator.definitions.now", lambda at=at: at)
        await definitions.create(definition(version))

    assert (await definitions.get("p")).version == "1"
    assert await versions(definitions) == ["1", "10", "2"]
    await definitions.delete("p", "1")
    assert (await definitions.get("p")).version == "10"


async def test_pipelines_and_versions_are_listed_page_by_page(store: LocalStore) -> None:
    definitions = Definitions(store)
    for pipeline_id in ("a", "b", "c"):
        await definitions.create(definition(pipeline_id=pipeline_id))

    first, token = await definitions.page(page_size=2, page_token=None)
    second, end = await definitions.page(page_size=2, page_token=token)

    assert [summary.pipeline_id for summary in (*first, *second)] == ["a", "b", "c"]
    assert (first[0].pipeline_name, first[0].HasField("create_time"), end) == ("P", True, None)


async def test_deleting_removes_one_version_or_all(store: LocalStore) -> None:
    definitions = Definitions(store)
    for version in ("1", "2", "3"):
        await definitions.create(definition(version))

    await definitions.delete("p", "2")
    assert sorted(await versions(definitions)) == ["1", "3"]
    await definitions.delete("p")

    assert (await store.list("")).items == ()
    for attempt in (definitions.get("p"), definitions.get("p", "1")):
        with pytest.raises(NotFound):
            await attempt
    for version in ("", "1"):
        with pytest.raises(NotFound):
            await definitions.delete("p", version)


async def test_a_definition_deleted_can_be_stored_anew_and_is_planned_anew(store: LocalStore, at: Bench) -> None:
    mine, theirs = Definitions(store), Definitions(store)
    planner = Planner(at.catalog, mine)
    await mine.create(definition())
    first = await planner.stored("p", "1", ())

    await theirs.delete("p")
    await theirs.create(definition(component="filter"))
    planner._stored.clear()  # as if the second for which a definition is held were over

    assert first.steps[0].call.component_name == "resize"
    assert (await planner.stored("p", "1", ())).steps[0].call.component_name == "filter"


async def test_an_entry_whose_definition_is_gone_is_passed_over(store: LocalStore) -> None:
    definitions = Definitions(store)
    await definitions.create(definition())
    await store.put(newest_key("p", now() + timedelta(days=1), "9"), b"", media_type="application/octet-stream")

    assert (await definitions.get("p")).version == "1"
    assert await versions(definitions) == ["1"]
    await definitions.delete("p")
    assert (await store.list("")).items == ()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"steps": 5}', b"\xff"])
async def test_a_damaged_definition_is_data_loss_and_hides_no_other(store: LocalStore, damage: bytes) -> None:
    definitions = Definitions(store)
    await definitions.create(definition(pipeline_id="a"))
    await definitions.create(definition())
    await store.put(definition_key("p", "1"), damage, media_type="application/json")

    with pytest.raises(DataLoss):
        await definitions.get("p")
    found, _ = await definitions.page(page_size=9, page_token=None)
    assert [summary.pipeline_id for summary in found] == ["a", "p"]


@pytest.mark.parametrize("token", ["x", "%%%", "a" * 5_000, ".imageflow/index/other/", "\0"])
async def test_a_page_token_that_is_none_of_ours_is_an_invalid_argument(store: LocalStore, token: str) -> None:
    await Definitions(store).create(definition())
    with pytest.raises(InvalidArgument):
        await Definitions(store).page(page_size=5, page_token=token)
    with pytest.raises(InvalidArgument):
        await Records(store).page("default", page_size=5, page_token=token)


async def test_another_namespaces_token_shows_none_of_its_executions(store: LocalStore) -> None:
    records = Records(store)
    for number in range(3):
        await records.create(record(f"theirs{number}", after=number, namespace="a"))
        await records.create(record(f"mine{number}", after=number, namespace="b"))
    _, token = await records.page("a", page_size=1, page_token=None)

    try:
        found, _ = await records.page("b", page_size=9, page_token=token)
    except InvalidArgument:
        return

    assert all(each.namespace == "b" for each in found)


async def test_an_execution_id_is_taken_once_in_a_namespace(store: LocalStore) -> None:
    records = Records(store)
    await records.create(record())
    await records.create(record(namespace="other"))

    with pytest.raises(AlreadyExists) as caught:
        await records.create(record())

    assert caught.value.reason == "EXECUTION_EXISTS"


@pytest.mark.parametrize("after", [0, 60])
async def test_a_refused_execution_leaves_one_entry_and_it_is_the_winners(store: LocalStore, after: int) -> None:
    records = Records(store)
    await records.create(record())

    with pytest.raises(AlreadyExists):
        await records.create(record(after=after))

    assert len((await store.list(".imageflow/index/")).items) == 1
    found, _ = await records.page("default", page_size=9, page_token=None)
    assert [each.execution_id for each in found] == ["e"]


async def test_an_entry_that_lost_or_whose_record_was_never_written_is_passed_over(store: LocalStore) -> None:
    records, later = Records(store), datetime(2025, 1, 2, tzinfo=UTC)
    await records.create(record())
    for execution_id in ("e", "f"):
        await store.put(index_key("default", later, execution_id), b"", media_type="text/plain")

    found, _ = await records.page("default", page_size=9, page_token=None)

    assert [each.execution_id for each in found] == ["e"]


async def test_a_record_is_replaced_only_over_what_was_read(store: LocalStore) -> None:
    records = Records(store)
    held = await records.create(record())
    done = record()
    done.execution.status = Execution.COMPLETED
    done.execution.results["a"].metadata.update({"boxes": [1, {"x": None}]})

    again = await records.replace(held, done)

    assert await records.get("default", "e") == done.execution
    with pytest.raises(WriteConflict):
        await records.replace(held, record())
    await records.replace(again, record())


async def test_executions_are_listed_newest_first_page_by_page(store: LocalStore) -> None:
    records = Records(store)
    for number in range(5):
        await records.create(record(f"e{number}", after=number * 100_000))

    first, token = await records.page("default", page_size=3, page_token=None)
    second, end = await records.page("default", page_size=3, page_token=token)

    assert [each.execution_id for each in (*first, *second)] == ["e4", "e3", "e2", "e1", "e0"]
    assert end is None


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"{}", b'{"schemaVersion": 2, "execution": {}}', b'{"schemaVersion": 1, "execution": 5}']
)
async def test_a_damaged_record_is_data_loss_and_hides_no_other(store: LocalStore, damage: bytes) -> None:
    records = Records(store)
    await records.create(record("good"))
    await records.create(record("bad", after=1))
    await store.put(record_key("default", "bad"), damage, media_type="application/json")

    with pytest.raises(DataLoss):
        await records.get("default", "bad")
    found, _ = await records.page("default", page_size=9, page_token=None)
    assert [each.execution_id for each in found] == ["good"]


async def test_an_execution_that_is_not_there_is_not_found(store: LocalStore) -> None:
    with pytest.raises(NotFound) as caught:
        await Records(store).get("default", "e")

    assert caught.value.reason == "EXECUTION_NOT_FOUND"


async def test_what_somebody_else_put_into_the_index_is_passed_over(store: LocalStore) -> None:
    records = Records(store)
    await records.create(record())
    await store.put(ObjectKey(".imageflow/index/default/stray"), b"", media_type="text/plain")

    found, _ = await records.page("default", page_size=9, page_token=None)

    assert [each.execution_id for each in found] == ["e"]


async def test_a_plan_is_made_once_until_something_changes(store: LocalStore, at: Bench) -> None:
    definitions = Definitions(store)
    planner = Planner(at.catalog, definitions)
    await definitions.create(definition())

    first = await planner.stored("p", "", ())
    assert await planner.stored("p", "", ()) is first
    assert await planner.stored("p", "1", ()) is first
    changed = await planner.stored("p", "", ("a.width=5",))
    assert changed.steps[0].call.parameters["width"] == 5
    at.catalog.replace_registry(at.catalog.registry)
    assert await planner.stored("p", "", ()) is not first


async def test_a_plan_of_one_component_is_made_by_any_of_its_names(store: LocalStore, at: Bench) -> None:
    """R15"""
    planner = Planner(at.catalog, Definitions(store))

    for name in ("detect", "ai_detection", "ai-detection", "object-detection"):
        (step,) = planner.component(name, "", ("annotate=true",)).steps
        assert (step.step_id, step.call.component_name, step.call.changes_image) == ("detect", "detect", True)
    with pytest.raises(NotFound):
        planner.component("detekt", "", ())
    with pytest.raises(InvalidPipeline):
        planner.component("resize", "7.0.0", ())


@pytest.mark.parametrize(
    ("assignments", "parameters"),
    [
        (("a.classes=coin",), {"classes": ["coin"]}),
        (("a.classes=coin,cup",), {"classes": ["coin", "cup"]}),
        (("a.modelVersion=1",), {"modelVersion": "1"}),
        (("a.model_name=true",), {"modelName": "true"}),
        (("a.max-detections=7", "a.annotate=TRUE"), {"maxDetections": 7, "annotate": True}),
        (("a.confidence_threshold=0.25",), {"confidenceThreshold": 0.25}),
        (("a.modelName=a=b",), {"modelName": "a=b"}),
    ],
)
async def test_text_is_read_by_the_type_of_its_parameter(
    store: LocalStore, at: Bench, assignments: tuple[str, ...], parameters: dict[str, object]
) -> None:
    """R15"""
    stored = definition(component="detect")
    stored.steps[0].parameters.update({"model_name": "mine", "max_detections": 9, "confidence-threshold": 0.9})
    await Definitions(store).create(stored)

    plan = await Planner(at.catalog, Definitions(store)).stored("p", "", assignments)

    assert parameters.items() <= dict(plan.steps[0].call.parameters).items()


@pytest.mark.parametrize("assignment", ["a.width=wide", "a.width=1e99", "a.height=", "b.width=1", "a=1", "a.nothing=1"])
async def test_text_that_does_not_fit_is_a_fault_of_the_override(store: LocalStore, at: Bench, assignment: str) -> None:
    await Definitions(store).create(definition())

    with pytest.raises(InvalidPipeline) as caught:
        await Planner(at.catalog, Definitions(store)).stored("p", "", (assignment,))

    (fault,) = caught.value.violations
    assert fault.field == f"overrides[{assignment.partition('=')[0]}]"


def test_an_assignment_without_a_name_or_given_twice_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_assignments(["width", "=5", "a.x=1", "a.x=2"])

    assert len(caught.value.violations) == 3
