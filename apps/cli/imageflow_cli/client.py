"""A small client of the gateway, over gRPC. Answers are imageflow.v1's messages; errors are imageflow_common's.

async with Client("http://127.0.0.1:8080") as client:
    result = await client.process_image("inspect-coins", data, media_type="image/png")
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.api.httpbody_pb2 import HttpBody

from imageflow.v1 import catalog_pb2 as catalog
from imageflow.v1 import pipeline_pb2 as pipelines
from imageflow.v1 import stored_image_pb2 as images
from imageflow.v1 import system_pb2 as system
from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import DataLoss

from .client_calls import Definition, json_body, pages, with_definition
from .client_executions import ExecutionCalls
from .rpc import as_our_errors, path, send_stream

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["CHUNK_BYTES", "Client", "Definition", "DownloadedImage", "ProcessedImage"]

CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class ProcessedImage:
    """An image that came back. `server_timing` and `detections` are as in the HTTP headers of these names."""

    data: bytes
    media_type: str
    execution_id: str
    server_timing: str
    detections: str


@dataclass(frozen=True, slots=True)
class DownloadedImage:
    """What a download carried, checked against the server's checksum."""

    media_type: str
    size_bytes: int
    sha256: str


class Client(ExecutionCalls):
    """Calls one gateway; `timeout` bounds each call but a watch. Use it in `async with`, in one event loop."""

    # Pipelines

    async def execute(
        self,
        pipeline: Definition | None = None,
        *,
        pipeline_id: str = "",
        version: str = "",
        input_path: str = "",
        output_path: str = "",
        execution_id: str = "",
        overrides: Mapping[str, object] | None = None,
        output_format: str = "",
        quality: int = 0,
    ) -> Execution:
        """Runs a pipeline, given or stored, over a stored image. A run that failed is an answer, not an error."""
        request = pipelines.ExecutePipelineRequest(
            pipeline_id=pipeline_id,
            version=version,
            input_path=input_path,
            output_path=output_path,
            execution_id=execution_id,
            output_format=output_format,
            quality=quality,
        )
        request = with_definition(request, pipeline, overrides or {})
        return await self._call("PipelineService/ExecutePipeline", request, Execution)

    async def validate(self, pipeline: Definition, *, overrides: Mapping[str, object] | None = None) -> pipelines.Plan:
        """The plan. Raises InvalidArgument with every fault."""
        request = with_definition(pipelines.ValidatePipelineRequest(), pipeline, overrides or {})
        return await self._call("PipelineService/ValidatePipeline", request, pipelines.Plan)

    async def process_image(
        self,
        pipeline_id: str,
        image: bytes,
        *,
        media_type: str,
        version: str = "",
        overrides: Mapping[str, str] | None = None,
        output_format: str = "",
        quality: int = 0,
        execution_id: str = "",
    ) -> ProcessedImage:
        """Runs a stored pipeline over an image. `overrides` are `stepId.parameter` to value, as text."""
        request = pipelines.ProcessImageRequest(
            pipeline_id=pipeline_id,
            version=version,
            set=_set(overrides),
            output_format=output_format,
            quality=quality,
            body=HttpBody(content_type=media_type, data=image),
            execution_id=execution_id,
        )
        return await self._process("PipelineService/ProcessImage", request)

    async def create_pipeline(self, pipeline: Definition) -> pipelines.Pipeline:
        """Stores a definition. Raises AlreadyExists when another has its id and version."""
        request = pipelines.CreatePipelineRequest()
        if isinstance(pipeline, pipelines.Pipeline):
            request.pipeline.CopyFrom(pipeline)
        else:
            request.body.CopyFrom(json_body(pipeline))
        return await self._call("PipelineService/CreatePipeline", request, pipelines.Pipeline)

    async def get_pipeline(self, pipeline_id: str, *, version: str = "") -> pipelines.Pipeline:
        request = pipelines.GetPipelineRequest(pipeline_id=pipeline_id, version=version)
        return await self._call("PipelineService/GetPipeline", request, pipelines.Pipeline)

    async def list_pipelines(self, *, pipeline_id: str = "") -> AsyncIterator[pipelines.PipelineSummary]:
        """The newest version of every pipeline, or every version of one."""

        async def page(token: str) -> pipelines.ListPipelinesResponse:
            request = pipelines.ListPipelinesRequest(pipeline_id=pipeline_id, page_token=token)
            return await self._call("PipelineService/ListPipelines", request, pipelines.ListPipelinesResponse)

        async for response in pages(page):
            for summary in response.pipelines:
                yield summary

    async def delete_pipeline(self, pipeline_id: str, *, version: str = "") -> None:
        """Deletes one version, or all."""
        request = pipelines.DeletePipelineRequest(pipeline_id=pipeline_id, version=version)
        await self._call("PipelineService/DeletePipeline", request, pipelines.DeletePipelineResponse)

    # Images

    async def upload_image(
        self, data: bytes | AsyncIterable[bytes], *, media_type: str, key: str = ""
    ) -> images.StoredImage:
        """Stores bytes under a key, or under one that the server chooses. Raises DataLoss when what was stored is not
        what was sent."""
        digest = hashlib.sha256()

        async def requests() -> AsyncIterator[images.UploadImageRequest]:
            first = images.UploadImageRequest(key=key, body=HttpBody(content_type=media_type))
            yield first
            async for chunk in _chunks(data):
                digest.update(chunk)
                yield images.UploadImageRequest(body=HttpBody(data=chunk))

        stored = await send_stream(
            self._channel, "ImageService/UploadImage", requests(), images.StoredImage, self._timeout
        )
        if stored.sha256 != digest.hexdigest():
            raise DataLoss(f"{stored.key}: stored with another checksum than what was sent")
        return stored

    async def download_image(self, key: str, write: Callable[[bytes], object]) -> DownloadedImage:
        """Hands the bytes to `write` as they come. Raises DataLoss when they are not what is stored; what was
        written is worthless then."""
        stream = self._channel.unary_stream(
            path("ImageService/DownloadImage"),
            request_serializer=images.DownloadImageRequest.SerializeToString,
            response_deserializer=HttpBody.FromString,
        )
        digest, size, media_type = hashlib.sha256(), 0, ""
        async with as_our_errors():
            running = stream(images.DownloadImageRequest(key=key), timeout=self._timeout)
            metadata = _texts(await running.initial_metadata())
            async for part in running:
                media_type = media_type or part.content_type
                digest.update(part.data)
                size += len(part.data)
                write(part.data)
        if not _is_whole(metadata, size, digest.hexdigest()):
            raise DataLoss(f"{key}: what came is not what is stored ({size} bytes)")
        return DownloadedImage(media_type, size, digest.hexdigest())

    async def list_images(self, *, prefix: str = "") -> AsyncIterator[images.StoredImage]:
        """By key."""

        async def page(token: str) -> images.ListImagesResponse:
            request = images.ListImagesRequest(prefix=prefix, page_token=token)
            return await self._call("ImageService/ListImages", request, images.ListImagesResponse)

        async for response in pages(page):
            for image in response.images:
                yield image

    async def delete_image(self, key: str) -> None:
        await self._call("ImageService/DeleteImage", images.DeleteImageRequest(key=key), images.DeleteImageResponse)

    async def sign_image(self, request: images.SignImageRequest) -> images.SignedImage:
        """A URL of the store that takes or gives the image. Raises FailedPrecondition where the store has none."""
        return await self._call("ImageService/SignImage", request, images.SignedImage)

    # Components and the system

    async def list_components(self) -> AsyncIterator[catalog.Component]:
        """By name."""

        async def page(token: str) -> catalog.ListComponentsResponse:
            request = catalog.ListComponentsRequest(page_token=token)
            return await self._call("CatalogService/ListComponents", request, catalog.ListComponentsResponse)

        async for response in pages(page):
            for component in response.components:
                yield component

    async def get_component(self, name: str) -> catalog.Component:
        """By name or alias."""
        request = catalog.GetComponentRequest(component_name=name)
        return await self._call("CatalogService/GetComponent", request, catalog.Component)

    async def process_with_component(
        self,
        name: str,
        image: bytes,
        *,
        media_type: str,
        version: str = "",
        parameters: Mapping[str, str] | None = None,
        output_format: str = "",
        quality: int = 0,
    ) -> ProcessedImage:
        """Runs one component. `parameters` are by name, as text."""
        request = catalog.ProcessWithComponentRequest(
            component_name=name,
            version=version,
            set=_set(parameters),
            output_format=output_format,
            quality=quality,
            body=HttpBody(content_type=media_type, data=image),
        )
        return await self._process("CatalogService/ProcessWithComponent", request)

    async def readiness(self) -> Sequence[str]:
        """The components that can be reached. Raises Unavailable, with what is missing, when not all can."""
        response = await self._call(
            "SystemService/GetReadiness", system.GetReadinessRequest(), system.GetReadinessResponse
        )
        return list(response.components)

    async def _process(self, method: str, request: Message) -> ProcessedImage:
        multicallable = self._channel.unary_unary(
            path(method), request_serializer=type(request).SerializeToString, response_deserializer=HttpBody.FromString
        )
        async with as_our_errors():
            running = multicallable(request, timeout=self._timeout)
            body = await running
            metadata = _texts(await running.initial_metadata())
        return ProcessedImage(
            data=body.data,
            media_type=body.content_type,
            execution_id=metadata.get("imageflow-execution-id", ""),
            server_timing=metadata.get("server-timing", ""),
            detections=metadata.get("imageflow-detections", ""),
        )


def _set(values: Mapping[str, str] | None) -> list[str]:
    return [f"{name}={value}" for name, value in (values or {}).items()]


def _texts(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def _is_whole(metadata: Mapping[str, str], size: int, sha256: str) -> bool:
    """An object that another program put into the store has no checksum."""
    same_size = metadata.get("imageflow-size-bytes", str(size)) == str(size)
    return same_size and metadata.get("imageflow-sha256", sha256) == sha256


async def _chunks(data: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]
        return
    async for chunk in data:
        yield chunk
