"""What lies in the bucket, as others see it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx

from tests.e2e import pictures
from tests.e2e.callers import Callers, http_refusal

from .conftest import PREFIX


def test_boto3_reads_what_an_execution_leaves(callers: Callers, s3: Any, bucket: str, examples: Path) -> None:
    """R30, R31"""
    callers.http.put("/v1/images/in.jpg", content=pictures.photo(), headers={"content-type": "image/jpeg"})
    pipeline = json.loads((examples / "resize.json").read_text())
    body = {"pipeline": pipeline, "inputPath": "in.jpg", "outputPath": "out.png", "executionId": "seen"}
    execution = callers.http.post("/v1/pipelines:execute", json=body).json()
    assert execution["status"] == "COMPLETED", execution

    found = s3.get_object(Bucket=bucket, Key=f"{PREFIX}/out.png")
    data = found["Body"].read()
    assert data == callers.http.get("/v1/images/out.png").content
    assert found["Metadata"]["imageflow-sha256"] == hashlib.sha256(data).hexdigest()
    described = s3.get_object(Bucket=bucket, Key=f"{PREFIX}/out.png.json")
    assert (described["ContentType"], json.load(described["Body"])["executionId"]) == ("application/json", "seen")
    record = s3.get_object(Bucket=bucket, Key=f"{PREFIX}/.imageflow/records/default/seen")
    assert json.load(record["Body"])["execution"]["status"] == "COMPLETED"


def test_what_boto3_puts_there_is_an_image(callers: Callers, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key=f"{PREFIX}/theirs/a b.jpg", Body=pictures.photo(), ContentType="image/jpeg")
    listed = callers.http.get("/v1/images", params={"prefix": "theirs/"}).json()["images"]
    assert [(image["key"], image["mediaType"], image["sha256"]) for image in listed] == [
        ("theirs/a b.jpg", "image/jpeg", "")
    ]
    response = callers.process_http(callers.http.get("/v1/images/theirs/a%20b.jpg").content, "image/jpeg")
    assert response.status_code == 200
    lying = {"Key": f"{PREFIX}/theirs/lying.jpg", "Body": b"GIF89a but no image", "ContentType": "image/jpeg"}
    s3.put_object(Bucket=bucket, **lying)
    assert _run(callers, "theirs/lying.jpg").json()["status"] == "FAILED"
    s3.put_object(Bucket=bucket, Key=f"{PREFIX}/theirs/empty.jpg", ContentType="image/jpeg")
    assert callers.http.get("/v1/images/theirs/empty.jpg").content == b""
    assert not _run(callers, "theirs/empty.jpg").is_server_error


def test_an_object_that_is_larger_than_an_image_may_be_is_not_read(callers: Callers, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key=f"{PREFIX}/theirs/large.tif", Body=bytes(100_000_000), ContentType="image/tiff")
    refused = http_refusal(_run(callers, "theirs/large.tif"))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "IMAGE_TOO_LARGE")
    assert "100000000 bytes" in refused.text


def _run(callers: Callers, key: str) -> httpx.Response:
    pipeline = {"pipelineId": "p", "steps": [{"stepId": "fit", "componentName": "resize"}]}
    return callers.http.post("/v1/pipelines:execute", json={"pipeline": pipeline, "inputPath": key})
