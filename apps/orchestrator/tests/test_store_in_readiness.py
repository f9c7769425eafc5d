"""A store that says in readiness what was wrong with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from orchestrator_executions import Site, site
from orchestrator_scripted import lines

from imageflow_common.errors import ImageFlowError, ObjectNotFound, StorageFull, Unavailable, WriteConflict
from imageflow_common.store import ObjectKey
from imageflow_common.store_observed import ObservedStore

KEY = ObjectKey("out.jpg")


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


async def put(store: ObservedStore) -> None:
    await store.put(KEY, b"pixels", media_type="image/jpeg")


async def test_what_a_store_was_last_found_to_lack_is_said_until_it_has_it_again(
    on: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = ObservedStore(on.store)
    await put(store)
    assert store.degraded() == []

    on.store.refuses = {KEY: StorageFull("the object store is full")}
    for _ in range(2):
        with pytest.raises(StorageFull):
            await put(store)
    assert store.degraded() == ["the object store could not be written to: the object store is full"]
    assert lines(caplog, "store.fails") == [
        {"use": "written to", "error_type": "STORAGE_FULL", "error": "the object store is full"}
    ]

    on.store.refuses = {}
    await store.list("")
    assert store.degraded()
    await put(store)
    assert store.degraded() == []
    assert len(lines(caplog, "store.works")) == 1


async def test_reads_are_told_from_writes(on: Site) -> None:
    store = ObservedStore(on.store)
    await put(store)
    on.store.away = 2
    for read in (store.get, store.head):
        with pytest.raises(Unavailable):
            await read(KEY)
    await put(store)
    [fault] = store.degraded()
    assert fault.startswith("the object store could not be read: ")

    async with store.open(KEY) as reader:
        assert b"".join([chunk async for chunk in reader]) == b"pixels"
    assert store.degraded() == []


async def test_what_is_only_asked_for_wrongly_is_no_fault_of_the_store(on: Site) -> None:
    store = ObservedStore(on.store)
    with pytest.raises(ObjectNotFound):
        await store.get(ObjectKey("nothing"))
    with pytest.raises(WriteConflict):
        await store.put(KEY, b"x", media_type="image/jpeg", if_generation="other")
    with pytest.raises(ImageFlowError):
        await store.put(KEY, b"x", media_type="nonsense")
    assert store.degraded() == []
