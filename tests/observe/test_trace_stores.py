"""What every `TraceStore` does: a real Zipkin, and Jaeger by answers of the form that its API documents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from imageflow_cli.observe.jaeger import JaegerStore
from imageflow_cli.observe.traces import BackendUnreachable, TraceStore
from imageflow_cli.observe.zipkin import ZipkinStore
from tests.e2e.product import eventually

from .recorded_jaeger import serving
from .sent import Sent, send_to_zipkin

SINCE = datetime.now(UTC) - timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Filled:
    """A store that has one execution."""

    store: TraceStore
    sent: Sent


@pytest.fixture(scope="module", params=["zipkin", "jaeger"])
def filled(request: pytest.FixtureRequest) -> Iterator[Filled]:
    if request.param == "jaeger":
        sent = Sent("ex-1", "p-1", uuid4().hex)
        with serving(sent) as url:
            yield Filled(JaegerStore(url), sent)
        return
    url = request.getfixturevalue("zipkin").url
    sent = send_to_zipkin(url, execution_id=f"ex-{uuid4()}", pipeline_id=f"p-{uuid4()}")
    store = ZipkinStore(url)
    eventually(lambda: len(asyncio.run(store.trace(sent.trace_id))) == 4)
    yield Filled(store, sent)


async def test_a_trace_is_found_by_its_id_with_parents_before_children(filled: Filled) -> None:
    root, *steps = await filled.store.trace(filled.sent.trace_id)
    assert (root.name, root.service, root.parent_id) == ("pipeline.execute", "orchestrator", "")
    assert [span.name for span in steps] == ["step.execute"] * 3
    assert {span.parent_id for span in steps} == {root.span_id}
    assert {span.trace_id for span in (root, *steps)} == {filled.sent.trace_id}
    assert [span.start_us for span in steps] == sorted(span.start_us for span in steps)


async def test_a_span_has_its_attributes_and_says_whether_it_failed(filled: Filled) -> None:
    root, *steps = await filled.store.trace(filled.sent.trace_id)
    assert root.attributes["execution.id"] == filled.sent.execution_id
    told = [(span.attributes["step.id"], span.attributes["attempt"], span.failed) for span in steps]
    assert told == [("shrink", "1", True), ("shrink", "2", False), ("sharpen", "1", False)]
    assert float(steps[1].attributes["compute_ms"]) == 7.0
    assert root.duration_ms >= steps[0].duration_ms > 0


@pytest.mark.parametrize("attribute", ["execution.id", "pipeline.id"])
async def test_traces_are_found_by_an_attribute(filled: Filled, attribute: str) -> None:
    values = {"execution.id": filled.sent.execution_id, "pipeline.id": filled.sent.pipeline_id}
    (found,) = await filled.store.find(attribute, values[attribute], since=SINCE, limit=10)
    assert found[0].trace_id == filled.sent.trace_id
    assert len(found) == 4


async def test_what_is_unknown_is_found_by_neither(filled: Filled) -> None:
    assert await filled.store.trace(uuid4().hex) == ()
    assert await filled.store.find("execution.id", 'a "b" & c=d\n', since=SINCE, limit=10) == []


@pytest.mark.parametrize("kind", [ZipkinStore, JaegerStore])
async def test_a_store_that_is_not_there_is_one_error(kind: type[ZipkinStore | JaegerStore]) -> None:
    with pytest.raises(BackendUnreachable, match="does not answer"):
        await kind("http://127.0.0.1:1").trace(uuid4().hex)
