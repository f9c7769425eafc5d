"""Intermediates that are kept in the store: written while the next steps run, or at the end if the run failed.

They are plain TIFF: docs/adr/0005-raw-pixels.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import ImageFlowError
from imageflow_common.formats import RAW
from imageflow_common.keys import artifact_key
from imageflow_common.logs import EventLog

from .definition import Persist, StepId
from .effects import StepOutcome
from .encode import encode_artifact
from .images import Artifact, ImageTransport
from .patience import PatientStore
from .plan import Plan
from .recorded import KeptImage

log = EventLog(__name__)

_TIFF = "image/tiff"

Finished = Callable[[StepId, StepOutcome, KeptImage | None], None]


class KeptImages:
    """The intermediates of one execution. Holds their images, uncopied, until they are written or not wanted.

    `finished` is told of each step that is kept, when all that the record needs of it is in the store.
    """

    def __init__(
        self, plan: Plan, execution: Execution, store: PatientStore, transport: ImageTransport, finished: Finished
    ) -> None:
        self._execution = execution
        self._store = store
        self._transport = transport
        self._finished = finished
        self._persist = {step.step_id: step.persist for step in plan.steps}
        self._writes: list[asyncio.Task[None]] = []
        self._on_failure: list[tuple[StepId, StepOutcome, Artifact]] = []

    def settled(self, step_id: StepId, outcome: StepOutcome, image: Artifact | None) -> None:
        """A step's outcome is final."""
        persist = self._persist[step_id]
        if not outcome.passed or persist is Persist.NEVER:
            return
        if image is None or outcome.status != "COMPLETED":
            if persist is Persist.ALWAYS:
                self._finished(step_id, outcome, None)
            return
        self._transport.hold(image)
        if persist is Persist.ALWAYS:
            self._start_write(step_id, outcome, image)
        else:
            self._on_failure.append((step_id, outcome, image))

    async def finish(self, *, failed: bool) -> None:
        """Writes what is left to write. Raises what the store raised, unless the run failed: then that is the news,
        and what could not be written is only logged."""
        while failed and self._on_failure:
            self._start_write(*self._on_failure.pop())
        for outcome in await asyncio.gather(*self._writes, return_exceptions=True):
            if not isinstance(outcome, BaseException):
                continue
            if not (failed and isinstance(outcome, ImageFlowError)):
                raise outcome
            log.warning("artifact.not_written", execution_id=self._execution.execution_id, error_type=outcome.reason)

    async def close(self) -> None:
        """Stops what still writes, and lets go of every image."""
        for write in self._writes:
            write.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        while self._on_failure:
            self._transport.release(self._on_failure.pop()[2])

    def _start_write(self, step_id: StepId, outcome: StepOutcome, image: Artifact) -> None:
        write = asyncio.create_task(self._write(step_id, outcome, image))
        write.add_done_callback(lambda _: self._transport.release(image))
        self._writes.append(write)

    async def _write(self, step_id: StepId, outcome: StepOutcome, image: Artifact) -> None:
        """Raw pixels as uncompressed TIFF: exact, quick to write, and any viewer opens it."""
        key = artifact_key(self._execution.namespace, self._execution.execution_id, step_id, outcome.attempts)
        media_type = image.description.media_type
        if media_type == RAW:
            media_type = _TIFF
            data = await encode_artifact(image, self._transport, media_type=_TIFF, quality=0)
        else:
            data = self._transport.bytes_of(image)
        await self._store.put(key, data, media_type=media_type)
        self._execution.results[step_id].output_path = key
        self._finished(step_id, outcome, KeptImage(image.description, key, media_type, len(data)))
