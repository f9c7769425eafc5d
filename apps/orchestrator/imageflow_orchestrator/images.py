"""Images between steps: where the bytes of each are, and how they travel to the next component.

Shared memory when the other end has proved that it sees our directory, inline otherwise. Small images travel inline
even then: a file costs more than the copy. See docs/adr/0003-shared-memory-capabilities.md.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from dataclasses import dataclass
from time import monotonic

from imageflow.v1 import image_pb2
from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow_common.errors import ImageFlowError
from imageflow_common.formats import RAW
from imageflow_common.shared import Capability, SharedDirectory

from .recycled import RecycledFiles

INLINE_BELOW_BYTES = 320 * 1024
"""Below this an image travels inline though shared memory is to be had: a JPEG of 277 kB costs less so, one of 483 kB
more."""
_SECOND_REMOVAL_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_SAMPLE_BYTES = {image_pb2.RawLayout.UINT8: 1, image_pb2.RawLayout.UINT16: 2, image_pb2.RawLayout.FLOAT32: 4}


@dataclass(slots=True)
class Artifact:
    """One image that a step answered or the pipeline was given: inline bytes, a file in shared memory, or both.
    `holders` counts those that have not released it. `read_by_others`: an attempt that was given it failed, and may
    read its file still."""

    description: image_pb2.Image
    data: bytes | None = None
    shared_name: str | None = None
    holders: int = 1
    read_by_others: bool = False

    @property
    def size_bytes(self) -> int:
        return self.description.size_bytes


class ImageTransport:
    """The one place that decides how an image travels. Owns the files in shared memory that it names."""

    def __init__(self, shared: SharedDirectory | None, recycled: RecycledFiles | None = None) -> None:
        self._shared = shared
        self._recycled = recycled or RecycledFiles(0, 0.0)
        self._owner = f"o{secrets.token_hex(6)}"
        if shared is not None:
            shared.sweep_dead()
        self._capability = shared.grant(self._owner) if shared else Capability("", "")
        self._numbers = itertools.count()
        self._abandoned: deque[tuple[float, str]] = deque()

    @property
    def capability(self) -> Capability:
        """What proves to a component that we may name files; empty without shared memory."""
        return self._capability

    def close(self) -> None:
        if self._shared is not None:
            self._shared.sweep(self._owner)
            self._shared.close()

    def input_image(self, data: bytes, media_type: str) -> Artifact:
        """The encoded image that a pipeline starts with."""
        return Artifact(image_pb2.Image(media_type=media_type, size_bytes=len(data)), data)

    def new_name(self) -> str:
        """A name in shared memory that nobody uses: of a file to write over, or one that was never used."""
        while self._abandoned and self._abandoned[0][0] < monotonic():
            self.remove(self._abandoned.popleft()[1])
        return self._recycled.take() or f"{self._owner}.{next(self._numbers)}"

    def attach(self, request: ComponentRequest, artifacts: list[Artifact], *, shared: bool) -> str:
        """Adds the images to a request; answers how they travel."""
        payload: list[bytes] = []
        offset = 0
        use_shared = shared and self._shared is not None
        for artifact in artifacts:
            image = request.inputs.add()
            image.CopyFrom(artifact.description)
            if use_shared and (artifact.shared_name or artifact.size_bytes >= INLINE_BELOW_BYTES):
                image.shared_memory_name = self._in_shared_memory(artifact)
                continue
            data = self.bytes_of(artifact)
            image.payload_range.offset_bytes, image.payload_range.size_bytes = offset, len(data)
            payload.append(data)
            offset += len(data)
        if payload:
            request.payload = payload[0] if len(payload) == 1 else b"".join(payload)
        return "inline" if payload or not artifacts else "shared-memory"

    def receive(self, response: ComponentResponse, *, expected_name: str, media_type: str) -> Artifact | None:
        """The image of a response; None: unchanged. Raises ImageFlowError for an answer that is not what was asked."""
        if not response.HasField("image"):
            return None
        image = response.image
        if image.media_type != media_type or not image.size_bytes:
            raise ImageFlowError("a component answered another kind of image than was asked", reason="BAD_ANSWER")
        if image.media_type == RAW and image.size_bytes != _raw_bytes(image.raw_layout):
            raise ImageFlowError("a component answered pixels that are not as many as it says", reason="BAD_ANSWER")
        if image.WhichOneof("location") == "shared_memory_name" and image.shared_memory_name == expected_name != "":
            return Artifact(image, None, expected_name)
        start, size = image.payload_range.offset_bytes, image.payload_range.size_bytes
        if size != image.size_bytes or start + size > len(response.payload):
            raise ImageFlowError("a component answered an image that is not where it says", reason="BAD_ANSWER")
        payload = response.payload
        return Artifact(image, payload if size == len(payload) else payload[start : start + size])

    def bytes_of(self, artifact: Artifact) -> bytes:
        """The bytes, wherever they are."""
        if artifact.data is not None:
            return artifact.data
        assert self._shared is not None, "a file in shared memory without a directory"
        with self._shared.read(artifact.shared_name or "", artifact.size_bytes) as data:
            return bytes(data)

    def hold(self, artifact: Artifact) -> Artifact:
        """Keeps an image for one more holder, who releases it too."""
        artifact.holders += 1
        return artifact

    def release(self, artifact: Artifact) -> None:
        """Lets go of an image for one holder; the last one's release frees it."""
        artifact.holders -= 1
        if artifact.holders <= 0 and artifact.shared_name is not None:
            if artifact.read_by_others:
                self.remove(artifact.shared_name)
            else:
                self._recycle(artifact.shared_name, artifact.size_bytes)
            artifact.shared_name = None

    def return_unwritten(self, name: str) -> None:
        """Takes back a name that an attempt, which has ended, had no use for."""
        if name:
            self._recycle(name, 0)

    @property
    def unused_names(self) -> frozenset[str]:
        """The files that nobody reads, and that are kept to be written again."""
        return self._recycled.names

    async def remove_unused(self) -> None:
        """Removes, until it is cancelled, the files that were kept to be written again and were not."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for name in self._recycled.take_unused():
                self.remove(name)

    def abandon(self, name: str) -> None:
        """Removes the file of an attempt that was given up: now, and again when a component that went on computing
        has had time to write it."""
        if name:
            self.remove(name)
            self._abandoned.append((monotonic() + _SECOND_REMOVAL_SECONDS, name))

    def remove(self, name: str) -> None:
        """Removes a file that a component may have written; nothing happens where there is none."""
        if name and self._shared is not None:
            self._recycled.forget(name)
            self._shared.remove(name)

    def _recycle(self, name: str, size_bytes: int) -> None:
        if not self._recycled.give(name, size_bytes):
            self.remove(name)

    def _in_shared_memory(self, artifact: Artifact) -> str:
        if artifact.shared_name is None:
            assert self._shared is not None
            artifact.shared_name = self.new_name()
            self._shared.write(artifact.shared_name, self.bytes_of(artifact))
        return artifact.shared_name


def _raw_bytes(layout: image_pb2.RawLayout) -> int:
    """0 for a layout that is none."""
    return layout.height * layout.width * layout.channels * _SAMPLE_BYTES.get(layout.sample_type, 0)
