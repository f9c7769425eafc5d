"""Bad keys: nothing outside its place is read, written or named. Rows of docs/errors.md."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from google.api.httpbody_pb2 import HttpBody

from imageflow.v1 import pipeline_pb2, stored_image_pb2

from . import pictures

if TYPE_CHECKING:
    from .callers import Callers
    from .error_table import Row

pytestmark = pytest.mark.usefixtures("then_it_still_serves")


def refuses(callers: Callers, row: Row, key: str, *words: str, in_path: str | None = "") -> None:
    """As the key of an upload, a download and a deletion, and as a pipeline's input and output. `in_path` is the key as
    a URL has it; None: no URL can have it."""
    if in_path is not None:
        url = f"/v1/images/{in_path or quote(key, safe='')}"
        row.refuses(callers.http.put(url, content=b"x"), *words)
        row.refuses(callers.http.get(url), *words)
        row.refuses(callers.http.delete(url), *words)
    steps = [{"stepId": "a", "componentName": "resize"}]
    for paths in ({"inputPath": key}, {"inputPath": "good/photo.jpg", "outputPath": key}):
        request = {"pipeline": {"pipelineId": "keys", "steps": steps}, **paths}
        row.refuses(callers.post("/v1/pipelines:execute", request), *words)
    part = stored_image_pb2.UploadImageRequest(key=key, body=HttpBody(data=b"x"))
    row.refuses(lambda: callers.rpc("ImageService/UploadImage", iter([part])), *words)
    asked = stored_image_pb2.DownloadImageRequest(key=key)
    row.refuses(lambda: callers.rpc("ImageService/DownloadImage", asked), *words)


def test_a_key_with_dots_that_lead_out(callers: Callers, row: Row) -> None:
    refuses(callers, row, "a/../../etc/passwd", "key")
    refuses(callers, row, "../secret", "key")


def test_a_key_that_is_an_absolute_path(callers: Callers, row: Row) -> None:
    refuses(callers, row, "/etc/passwd", "key")


def test_a_key_with_a_nul(callers: Callers, row: Row) -> None:
    """Over HTTP it can only come in JSON: the gateway takes no such path, see test_a_path_with_a_nul."""
    refuses(callers, row, "a\0b.jpg", "key", in_path=None)


def test_a_key_below_the_reserved_prefix(callers: Callers, row: Row) -> None:
    refuses(callers, row, ".imageflow/records/default/x", "reserved")
    refuses(callers, row, ".ImageFlow/records/default/x", "reserved")
    row.refuses(callers.http.get("/v1/images", params={"prefix": ".imageflow/"}), "reserved")
    keys = [image["key"] for image in callers.http.get("/v1/images", params={"pageSize": 1000}).json()["images"]]
    assert not [key for key in keys if key.lower().startswith(".imageflow")]


@pytest.mark.parametrize("key", ["fotos/Zürich 日本 🪙.jpg", "a b+c%.jpg", "schräg/é.jpg"])
def test_a_key_in_any_script(callers: Callers, row: Row, key: str) -> None:
    photo = pictures.photo()
    stored = callers.http.put(f"/v1/images/{quote(key)}", content=photo, headers={"content-type": "image/jpeg"})
    row.takes(stored)
    assert stored.json()["key"] == key
    assert callers.http.get(f"/v1/images/{quote(key, safe='')}").content == photo
    asked = pipeline_pb2.ExecutePipelineRequest(input_path=key, output_path=f"out/{key}")
    asked.pipeline.pipeline_id = "keys"
    asked.pipeline.steps.add(step_id="a", component_name="resize")
    done = callers.rpc("PipelineService/ExecutePipeline", asked)
    assert done.final_output_path == f"out/{key}"
    assert callers.http.get(f"/v1/images/{quote(f'out/{key}')}").status_code == 200


def test_a_key_that_is_not_there(callers: Callers, row: Row) -> None:
    row.refuses(callers.http.get("/v1/images/no/such.jpg"), "no/such.jpg")
    row.refuses(callers.http.delete("/v1/images/no/such.jpg"))
    asked = stored_image_pb2.DownloadImageRequest(key="no/such.jpg")
    row.refuses(lambda: callers.rpc("ImageService/DownloadImage", asked), "no/such.jpg")
