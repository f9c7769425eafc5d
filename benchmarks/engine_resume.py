"""How long it takes to finish what an orchestrator left when it was killed."""

from __future__ import annotations

import asyncio
from time import perf_counter

from google.protobuf.json_format import ParseDict

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord, RecordedRequest
from imageflow_common.store import ObjectKey
from imageflow_orchestrator.claim import new_record
from imageflow_orchestrator.engine import Requested
from imageflow_orchestrator.planned import ASYNCHRONOUS
from imageflow_orchestrator.planner import plan_given
from imageflow_orchestrator.records import Records

from .engine_site import Site, chain, image

_INPUT = ObjectKey("in.png")
_STEPS = 3
_AT_ONCE = 16
_POLL_SECONDS = 0.05


async def resume_seconds(site: Site, executions: int) -> float:
    """From the first look at the store to the last outcome in it. Each has three steps and finished the first; the
    record, the intermediates and the output of each are stored as always."""
    running = site.orchestrator.executions
    await running.store.put(_INPUT, image(), media_type="image/png")
    records = Records(running.store)
    names = iter(f"e{number}" for number in range(executions))
    await asyncio.gather(*(_leave(site, records, names) for _ in range(_AT_ONCE)))
    started = perf_counter()
    running.hold_queue()
    await running.recover()
    while running._live:  # noqa: ASYNC110 - it is what an operator would see
        await asyncio.sleep(_POLL_SECONDS)
    seconds = perf_counter() - started
    found = [await records.get("default", f"e{number}") for number in range(executions)]
    assert all(each.status == Execution.COMPLETED for each in found)
    return seconds


async def _leave(site: Site, records: Records, names: object) -> None:
    """Writes what is there when an orchestrator is killed while it runs the second step."""
    request = RecordedRequest(pipeline=chain(_STEPS), input_path=_INPUT)
    plan = plan_given(request.pipeline, site.orchestrator.catalog, {}, defaults=ASYNCHRONOUS)
    for name in names:  # type: ignore[attr-defined]
        record = new_record(request, plan, Requested(execution_id=name), ExecutionRecord.ASYNCHRONOUS)
        held = await records.create(record, pending=True)
        record.execution.status = Execution.RUNNING
        record.execution.start_time.GetCurrentTime()
        key = f"artifacts/default/{name}/s0/1"
        await site.orchestrator.executions.store.put(ObjectKey(key), image(), media_type="image/png")
        kept = {"mediaType": "image/png", "sizeBytes": len(image()), "objectKey": key}
        ParseDict({"attempts": 1, "imageSource": "s0", "image": kept}, record.steps["s0"])
        await records.replace(held, record)
