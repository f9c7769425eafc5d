"""Executions asked for by message: what is sent, and how one waits until every one has ended and was told of."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from imageflow_common.errors import NotFound
from imageflow_common.keys import PENDING_PREFIX
from imageflow_common.store import ObjectStore
from imageflow_orchestrator.identity import DEFAULT_NAMESPACE
from imageflow_orchestrator.records import Records, has_ended
from tests.kafka.office import Office

from .shapes import INPUT, Shape
from .stage import eventually

_LAST_WORDS = 8_000


def message(shape: Shape, execution_id: str) -> dict[str, Any]:
    return {
        "execution_id": execution_id,
        "pipeline_config": shape.definition(),
        "input_data": {"input_path": INPUT},
        "parameters": {},
    }


async def ended_among(store: ObjectStore, names: list[str]) -> list[str]:
    """Those whose record says that they have ended."""
    records = Records(store)
    return [name for name in names if await _has_ended(records, name)]


async def until_all_have_ended(store: ObjectStore, names: list[str], log: Path, *, within: float) -> None:
    """Where one does not, says which, and what the orchestrators that write to `log` said last."""
    left = list(names)

    async def none_is_left() -> bool:
        ended = set(await ended_among(store, left))
        left[:] = [name for name in left if name not in ended]
        return not left

    try:
        await eventually(none_is_left, within=within, every=0.2)
    except AssertionError as exc:
        said = (await asyncio.to_thread(log.read_text, errors="replace"))[-_LAST_WORDS:]
        raise AssertionError(f"{left} did not end; the orchestrators' last words:\n{said}") from exc


async def until_told(office: Office, count: int, *, within: float) -> dict[str, list[dict[str, Any]]]:
    """The completions of each execution, once so many executions have one."""

    async def told() -> dict[str, list[dict[str, Any]]] | None:
        found = await asyncio.to_thread(office.completions)
        return found if len(found) == count else None

    found: dict[str, list[dict[str, Any]]] = await eventually(told, within=within, every=0.2)
    return found


async def no_marker(store: ObjectStore) -> bool:
    return not (await store.list(PENDING_PREFIX)).items


async def _has_ended(records: Records, name: str) -> bool:
    try:
        return has_ended(await records.get(DEFAULT_NAMESPACE, name))
    except NotFound:
        return False
