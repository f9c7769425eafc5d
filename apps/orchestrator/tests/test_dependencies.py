"""How everything is that pipelines need, and since when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator_scripted import bench

from imageflow_common.errors import Unavailable
from imageflow_common.store import ObjectInfo
from imageflow_common.store_local import LocalStore
from imageflow_common.store_observed import ObservedStore
from imageflow_orchestrator.dependencies import Dependencies


class Moody(LocalStore):
    """Is away while `away` says why."""

    away = ""

    async def head(self, key: Any) -> ObjectInfo:
        if self.away:
            raise Unavailable("the store cannot be reached", reason=self.away)
        return await super().head(key)


async def test_each_says_how_it_is_and_since_when_it_has_been_so(tmp_path: Path) -> None:
    shared, store = tmp_path / "shared", Moody(tmp_path / "store", durable=False)
    shared.mkdir()
    broker = [""]
    async with bench(shared) as at:
        looked = Dependencies(at.catalog, ObservedStore(store), lambda: [each for each in broker if each])
        first = {(each.kind, each.name): each for each in await looked.look()}
        assert {kind for kind, _ in first} == {"broker", "component", "registry", "store"}
        assert [each.reason for each in first.values()] == [""] * len(first)

        store.away, broker[0] = "STORE_UNREACHABLE", "Kafka is not reachable"
        at.catalog.registry_fault = "not YAML"
        second = {(each.kind, each.name): each for each in await looked.look()}
        assert second["store", "objects"].reason == "STORE_UNREACHABLE: the store cannot be reached"
        assert second["broker", "kafka"].reason == "Kafka is not reachable"
        assert second["registry", "file"].reason == "not YAML"
        assert second["store", "objects"].since > first["store", "objects"].since
        assert second["component", "resize"] == first["component", "resize"]

        store.away = "STORE_SLOW"
        third = {(each.kind, each.name): each for each in await looked.look()}
        assert third["store", "objects"].since == second["store", "objects"].since
        assert third["store", "objects"].reason.startswith("STORE_SLOW")
    await store.close()


async def test_without_a_broker_none_is_told_of(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", durable=False)
    (tmp_path / "shared").mkdir()
    async with bench(tmp_path / "shared") as at:
        kinds = {each.kind for each in await Dependencies(at.catalog, ObservedStore(store), None).look()}
    assert kinds == {"component", "registry", "store"}
    await store.close()
