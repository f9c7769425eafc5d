"""From what was asked for to the record of an execution that can be accepted: all that is checked before."""

from __future__ import annotations

from time import perf_counter

from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.keys import metadata_key, parse_user_key
from imageflow_common.store import ObjectStore

from .asked import Asked
from .batch import resolve_batch
from .claim import fingerprint, new_record
from .engine import Requested, chosen_format
from .messages import read_values
from .planned import ASYNCHRONOUS
from .planner import Planner


async def prepare_record(
    asked: Asked, planner: Planner, store: ObjectStore, *, namespace: str, begun: float, request_sha256: str = ""
) -> ExecutionRecord:
    """The record of an asynchronous execution. `begun` is when reading what was asked for began, on `perf_counter`.
    Raises InvalidPipeline with every fault, InvalidKey, InvalidArgument; Unavailable when a component that the plan
    needs has not been heard of."""
    request = asked.request
    plan = planner.given(request.pipeline, read_values(request.overrides), asked.faults, defaults=ASYNCHRONOUS)
    requested = Requested(
        namespace=namespace,
        execution_id=asked.execution_id,
        output_format=request.output_format,
        quality=request.quality,
        plan_ms=(perf_counter() - begun) * 1e3,
    )
    chosen_format(requested)
    sha256 = request_sha256 or fingerprint(request)
    kind = await _check_inputs(asked, store)
    return new_record(request, plan, requested, kind, request_sha256=sha256)


async def _check_inputs(asked: Asked, store: ObjectStore) -> ExecutionRecord.Kind:
    """What can be said of the inputs before anything is accepted."""
    if asked.request.HasField("batch"):
        await resolve_batch(asked.request, store)
        return ExecutionRecord.BATCH
    parse_user_key(asked.request.input_path)
    if asked.request.output_path:
        metadata_key(parse_user_key(asked.request.output_path))
    return ExecutionRecord.ASYNCHRONOUS
