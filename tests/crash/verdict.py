"""What must hold when every execution has ended, however often the orchestrator was killed meanwhile."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.keys import PENDING_PREFIX
from imageflow_common.store import ObjectKey
from imageflow_common.store_local import LocalStore

from .ledger import Entry
from .shapes import Shape
from .stage import Stage


@dataclass(frozen=True, slots=True)
class Expected:
    """An execution that was asked for, and the SHA-256 of its output; empty for none."""

    execution_id: str
    shape: Shape
    sha256: str


async def faults_found(stage: Stage, expected: Sequence[Expected], ended: Mapping[str, Execution]) -> list[str]:
    """Everything that does not hold; `ended` is what the orchestrator lists."""
    entries = stage.entries()
    faults = [
        *_outcomes(expected, ended),
        *_repeated_steps(entries),
        *_completions(entries, expected),
        *(f"shared memory holds {name}" for name in stage.images_in_shared_memory()),
    ]
    async with stage.reading() as store:
        faults += await _outputs(store, expected, ended)
        faults += await _damaged(store)
        faults += [f"{key} is still there" for key in await _keys(store, PENDING_PREFIX)]
    return faults


def _outcomes(expected: Sequence[Expected], ended: Mapping[str, Execution]) -> list[str]:
    faults = [f"{name} was never asked for" for name in ended.keys() - {each.execution_id for each in expected}]
    for each in expected:
        found = ended.get(each.execution_id)
        if found is None:
            faults.append(f"{each.execution_id} is lost")
        elif Execution.State.Name(found.status) != each.shape.status:
            faults.append(f"{each.execution_id} ended {Execution.State.Name(found.status)}: {found.error}")
    return faults


async def _outputs(store: LocalStore, expected: Sequence[Expected], ended: Mapping[str, Execution]) -> list[str]:
    faults = []
    for each in expected:
        key = ended[each.execution_id].final_output_path if each.execution_id in ended else ""
        if not each.sha256:
            faults += [f"{each.execution_id} has an output"] if key else []
            continue
        if not key or hashlib.sha256((await store.get(ObjectKey(key))).data).hexdigest() != each.sha256:
            faults.append(f"{each.execution_id}: its output is not what the reference made")
        elif not (await store.get(ObjectKey(f"{key}.json"))).data:
            faults.append(f"{each.execution_id} has no metadata")
    return faults


async def _damaged(store: LocalStore) -> list[str]:
    """Every object there is, whole."""
    faults = []
    for key in await _keys(store, ""):
        stored = await store.get(ObjectKey(key))
        if stored.info.sha256 != hashlib.sha256(stored.data).hexdigest():
            faults.append(f"{key} is damaged")
    return faults


def _repeated_steps(entries: Sequence[Entry]) -> list[str]:
    """Calls of steps that a stored record had as finished."""
    stored: defaultdict[str, set[str]] = defaultdict(set)
    faults = []
    for entry in entries:
        if entry.what == "stored":
            stored[entry.execution_id].update(entry.words)
        elif entry.what == "call":
            step_id = entry.words[0]
            if step_id in stored[entry.execution_id]:
                faults.append(f"{entry.execution_id}: {step_id} was stored, and ran again")
    return faults


def _completions(entries: Sequence[Entry], expected: Sequence[Expected]) -> list[str]:
    told: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for entry in entries:
        if entry.what == "completion":
            told[entry.execution_id].add(entry.words)
    faults = []
    for each in expected:
        notices = told[each.execution_id]
        if len(notices) != 1 or {status for _, status in notices} != {each.shape.status.lower()}:
            faults.append(f"{each.execution_id}: completions {sorted(notices)}")
    return faults


def told_twice(entries: Sequence[Entry]) -> list[str]:
    """The executions whose completion was published more than once: only a crash may do that."""
    times = Counter(entry.execution_id for entry in entries if entry.what == "completion")
    return [execution_id for execution_id, number in times.items() if number > 1]


def calls_of(entries: Sequence[Entry]) -> Counter[tuple[str, str]]:
    """How often each step of each execution was called."""
    return Counter((entry.execution_id, entry.words[0]) for entry in entries if entry.what == "call")


async def _keys(store: LocalStore, prefix: str) -> list[str]:
    keys: list[str] = []
    token: str | None = None
    while True:
        page = await store.list(prefix, page_token=token)
        keys += [item.key for item in page.items]
        if (token := page.next_page_token) is None:
            return keys
