"""A client by somebody who has only the .proto files: stubs by plain protoc, nothing of the product's Python.

Run as `python -S stranger.py TARGET PHOTO` with the stubs and grpcio on PYTHONPATH; prints what it saw as JSON.
"""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import grpc
from google.api import httpbody_pb2

from imageflow.v1 import (
    catalog_pb2,
    catalog_pb2_grpc,
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    pipeline_pb2,
    pipeline_pb2_grpc,
    resize_pb2,
    resize_pb2_grpc,
    stored_image_pb2,
    stored_image_pb2_grpc,
)

CHUNK = 64 * 1024


def main(target: str, photo: bytes) -> dict[str, object]:
    with grpc.insecure_channel(target) as channel:
        images = stored_image_pb2_grpc.ImageServiceStub(channel)
        pipelines = pipeline_pb2_grpc.PipelineServiceStub(channel)
        stored = images.UploadImage(parts(photo), timeout=20)
        done = pipelines.ExecutePipeline(request(), timeout=20)
        download = images.DownloadImage(stored_image_pb2.DownloadImageRequest(key=done.final_output_path), timeout=20)
        headers = dict(download.initial_metadata())
        output = b"".join(part.data for part in download)
        executions = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        again = executions.GetExecution(
            execution_service_pb2.GetExecutionRequest(execution_id=done.execution_id), timeout=20
        )
        listed = catalog.ListComponents(catalog_pb2.ListComponentsRequest(), timeout=20)
        return {
            "foreign": importlib.util.find_spec("imageflow_common") is None,
            "stored": stored.sha256 == hashlib.sha256(photo).hexdigest(),
            "status": execution_pb2.Execution.State.Name(done.status),
            "recorded": execution_pb2.Execution.State.Name(again.status),
            "whole": headers["imageflow-sha256"] == hashlib.sha256(output).hexdigest(),
            "components": [each.name for each in listed.components],
            "refused": refused(pipelines),
            "direct": direct(channel, photo),
        }


def parts(photo: bytes):
    for start in range(0, len(photo), CHUNK):
        body = httpbody_pb2.HttpBody(content_type="image/jpeg", data=photo[start : start + CHUNK])
        yield stored_image_pb2.UploadImageRequest(key="stranger/photo.jpg" if start == 0 else "", body=body)


def request() -> pipeline_pb2.ExecutePipelineRequest:
    asked = pipeline_pb2.ExecutePipelineRequest(input_path="stranger/photo.jpg")
    asked.pipeline.pipeline_id = "strangers"
    step = asked.pipeline.steps.add(step_id="fit", component_name="resize")
    step.parameters.update({"width": 120, "height": 90})
    asked.pipeline.steps.add(step_id="edges", component_name="filter", dependencies=["fit"])
    return asked


def refused(pipelines: pipeline_pb2_grpc.PipelineServiceStub) -> str:
    try:
        pipelines.GetPipeline(pipeline_pb2.GetPipelineRequest(pipeline_id="no-such"), timeout=20)
    except grpc.RpcError as exc:
        return str(exc.code().name)
    return "nothing"


def direct(channel: grpc.Channel, photo: bytes) -> list[int]:
    """One component by its own typed service, through the same gateway."""
    asked = resize_pb2.ResizeServiceProcessRequest(payload=photo)
    image = asked.inputs.add(media_type="image/jpeg", size_bytes=len(photo))
    image.payload_range.size_bytes = len(photo)
    asked.parameters.width = 50
    asked.output.media_type = "image/png"
    answer = resize_pb2_grpc.ResizeServiceStub(channel).Process(asked, timeout=20)
    return [answer.image.width, answer.metadata.output_width, len(answer.payload) - answer.image.size_bytes]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]).read_bytes())))
