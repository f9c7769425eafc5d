"""Between a step's outcome and what the record keeps of it, so that a finished step is not run again (R55)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imageflow.v1.execution_pb2 import Failure as FailureMessage
from imageflow.v1.image_pb2 import Image
from imageflow.v1.record_pb2 import ExecutionRecord, RecordedStep
from imageflow_common.store import ObjectKey

from .call import Answer
from .definition import StepId
from .effects import Failure, SkipReason, Status, StepOutcome
from .images import Artifact
from .messages import write_failure
from .plan import Plan


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Finished steps of an earlier run of this execution, and the images they answered, which are in the store but for
    those of the steps that are `lost`."""

    outcomes: Mapping[StepId, StepOutcome]
    images: Mapping[StepId, Artifact]
    lost: frozenset[StepId] = frozenset()


NOTHING = TakenOver({}, {})


@dataclass(frozen=True, slots=True)
class KeptImage:
    """Where a step's image is in the store, and in what format."""

    description: Image
    key: ObjectKey
    media_type: str
    size_bytes: int


def record_step(outcome: StepOutcome, image: KeptImage | None, *, by_fallback: bool) -> RecordedStep:
    """What the record keeps of a step that passed."""
    passed_over = outcome.status is Status.SKIPPED
    step = RecordedStep(attempts=outcome.attempts, passed_over=passed_over, by_fallback=by_fallback)
    step.image_source = outcome.image_source or ""
    if isinstance(outcome.result, Answer):
        step.metadata = outcome.result.metadata
        step.result.CopyFrom(outcome.result.result)
    if image is not None:
        step.image.CopyFrom(image.description)
        step.image.ClearField("raw_layout")
        step.image.media_type, step.image.size_bytes = image.media_type, image.size_bytes
        step.image.object_key = image.key
    if outcome.failure is not None:
        step.failure.CopyFrom(write_failure(outcome.failure))
    return step


def take_over(record: ExecutionRecord, plan: Plan) -> TakenOver:
    """The steps of the plan that the record has as finished."""
    outcomes: dict[StepId, StepOutcome] = {}
    images: dict[StepId, Artifact] = {}
    for planned in plan.steps:
        if planned.step_id not in record.steps:
            continue
        step = record.steps[planned.step_id]
        image = _stored_image(step.image) if step.HasField("image") else None
        if image is not None:
            images[planned.step_id] = image
        call = planned.fallback if step.by_fallback and planned.fallback is not None else planned.call
        outcomes[planned.step_id] = StepOutcome(
            status=Status.SKIPPED if step.passed_over else Status.COMPLETED,
            attempts=step.attempts,
            call=call,
            result=None if step.passed_over else Answer(image, step.metadata, step.result, "", 0.0),
            failure=_failure(step.failure) if step.HasField("failure") else None,
            skip_reason=SkipReason.FAILURE_SKIPPED if step.passed_over else None,
            image_source=StepId(step.image_source) if step.image_source else None,
        )
    return TakenOver(outcomes, images)


def _stored_image(description: Image) -> Artifact:
    copy = Image()
    copy.CopyFrom(description)
    return Artifact(copy)


def _failure(message: FailureMessage) -> Failure:
    return Failure(message.code, message.reason, message.message, step_id=StepId(message.step_id) or None)
