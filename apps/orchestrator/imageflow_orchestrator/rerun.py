"""A rerun: a new execution that takes over what an ended one had finished before the step it starts from (R55)."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.struct_pb2 import Value

from imageflow.v1.pipeline_pb2 import Pipeline
from imageflow.v1.record_pb2 import ExecutionRecord, RecordedRequest
from imageflow_common.errors import FailedPrecondition, InvalidArgument, ObjectNotFound, Violation
from imageflow_common.store import ObjectKey, ObjectStore

from .claim import fingerprint, new_record
from .engine import Requested
from .messages import read_values
from .plan import Plan
from .planned import ASYNCHRONOUS
from .planner import Planner
from .records import Records, has_ended


class Reruns:
    """Makes the records of reruns."""

    def __init__(self, planner: Planner, store: ObjectStore, records: Records) -> None:
        self._planner = planner
        self._store = store
        self._records = records

    async def prepare(
        self,
        namespace: str,
        execution_id: str,
        *,
        from_step: str,
        overrides: Mapping[str, Value],
        new_execution_id: str,
    ) -> ExecutionRecord:
        """The record of the new execution, which copies the images that it takes over when it begins. Raises NotFound;
        FailedPrecondition for an execution that has not ended, has no definition, or is a batch, and for an image that
        is gone; InvalidArgument for a step that is not there, or an override of a step that would not run again;
        InvalidPipeline."""
        old = (await self._records.hold(namespace, execution_id)).record
        if not has_ended(old.execution):
            raise FailedPrecondition("the execution has not ended", reason="EXECUTION_RUNNING")
        if old.kind is ExecutionRecord.BATCH or not old.request.pipeline.steps or not old.request.input_path:
            raise FailedPrecondition("this execution kept nothing that could run again", reason="NOT_RERUNNABLE")
        request = RecordedRequest()
        request.CopyFrom(old.request)
        for name, value in overrides.items():
            request.overrides[name].CopyFrom(value)
        plan = self._planner.given(request.pipeline, read_values(request.overrides), defaults=ASYNCHRONOUS)
        again = _run_again(old, from_step)
        _check_overrides(overrides, again)
        requested = Requested(namespace=namespace, execution_id=new_execution_id)
        sha256 = fingerprint(request, "rerun", execution_id, from_step)
        record = new_record(request, plan, requested, ExecutionRecord.ASYNCHRONOUS, request_sha256=sha256)
        record.execution.rerun_of = execution_id
        await self._take_over(old, record, plan, again)
        return record

    async def _take_over(self, old: ExecutionRecord, record: ExecutionRecord, plan: Plan, again: set[str]) -> None:
        taken = [step.step_id for step in plan.steps if step.step_id in old.steps and step.step_id not in again]
        for step_id in taken:
            record.steps[step_id].CopyFrom(old.steps[step_id])
            record.execution.results[step_id].CopyFrom(old.execution.results[step_id])
            if key := record.steps[step_id].image.object_key:
                await self._check_there(step_id, ObjectKey(key))
        record.execution.reused_steps.extend(taken)

    async def _check_there(self, step_id: str, key: ObjectKey) -> None:
        try:
            await self._store.head(key)
        except ObjectNotFound as exc:
            raise FailedPrecondition(
                f"the image of {step_id!r} is no longer in the store; start from that step", reason="ARTIFACT_GONE"
            ) from exc


def _run_again(old: ExecutionRecord, from_step: str) -> set[str]:
    """The step and all that depends on it; without one, all that has no stored result."""
    steps = old.request.pipeline.steps
    if not from_step:
        return _with_dependents(old.request.pipeline, {step.step_id for step in steps if step.step_id not in old.steps})
    if from_step not in {step.step_id for step in steps}:
        raise InvalidArgument(
            f"there is no step {from_step!r}",
            violations=[Violation("fromStep", "no step of this execution's pipeline")],
        )
    lost = {step.step_id for step in steps if step.step_id not in old.steps}
    return _with_dependents(old.request.pipeline, {from_step, *lost})


def _with_dependents(pipeline: Pipeline, chosen: set[str]) -> set[str]:
    found = set(chosen)
    grown = True
    while grown:
        grown = False
        for step in pipeline.steps:
            if step.step_id not in found and found.intersection([*step.dependencies, *step.input_from.values()]):
                found.add(step.step_id)
                grown = True
    return found


def _check_overrides(overrides: Mapping[str, Value], again: set[str]) -> None:
    useless = [name for name in overrides if name.partition(".")[0] not in again]
    if useless:
        violations = [
            Violation(f"overrides.{name}", "this step's result is taken over; start from it") for name in useless
        ]
        raise InvalidArgument("an override of a step that would not run again", violations=violations)
