"""URLs by which images go to the store and come from it past the gateway."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import pictures
from tests.e2e.callers import Callers, http_refusal
from tests.e2e.product import imageflow


def sign(callers: Callers, key: str, **query: Any) -> httpx.Response:
    return callers.http.post(f"/v1/images/{key}:sign", params=query)


def use(signed: dict[str, Any], content: bytes | None = None, **headers: str) -> httpx.Response:
    return httpx.request(
        signed["method"], signed["url"], headers={**signed["headers"], **headers}, content=content, timeout=30
    )


def test_an_image_goes_past_the_gateway_in_both_directions(callers: Callers) -> None:
    photo = pictures.photo()
    digest = hashlib.sha256(photo).hexdigest()
    signed = sign(callers, "signed/a b.jpg", access="UPLOAD", mediaType="image/jpeg", sha256=digest).json()
    assert use(signed, photo).status_code == 200
    (listed,) = callers.http.get("/v1/images", params={"prefix": "signed/"}).json()["images"]
    assert (listed["key"], listed["mediaType"], listed["sha256"]) == ("signed/a b.jpg", "image/jpeg", digest)

    pipeline = {"pipelineId": "p", "steps": [{"stepId": "fit", "componentName": "resize"}]}
    body = {"pipeline": pipeline, "inputPath": "signed/a b.jpg", "outputPath": "signed/out.jpg"}
    assert callers.http.post("/v1/pipelines:execute", json=body).json()["status"] == "COMPLETED"
    down = sign(callers, "signed/out.jpg").json()
    assert (down["method"], down["headers"]) == ("GET", {})
    assert use(down).content == callers.http.get("/v1/images/signed/out.jpg").content


def test_a_signed_upload_takes_the_bytes_that_were_named_and_no_others(callers: Callers) -> None:
    digest = hashlib.sha256(b"good").hexdigest()
    signed = sign(callers, "signed/good", access="UPLOAD", sha256=digest).json()
    assert use(signed, b"evil").status_code == 400
    assert use({**signed, "headers": {}}, b"good").status_code in (400, 403)
    assert callers.http.get("/v1/images/signed/good").status_code == 404


@pytest.mark.parametrize(
    ("key", "query", "reason"),
    [
        ("signed/missing", {}, "OBJECT_NOT_FOUND"),
        (".imageflow/queue", {}, "INVALID_KEY"),
        ("x", {"lifetime": "90000s"}, "INVALID_ARGUMENT"),
        ("x", {"access": "UPLOAD", "sha256": "0"}, "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_signed_is_refused(callers: Callers, key: str, query: dict[str, str], reason: str) -> None:
    assert http_refusal(sign(callers, key, **query)).reason == reason


def test_the_command_fetches_what_was_uploaded_without_a_checksum(callers: Callers, tmp_path: Path) -> None:
    assert use(sign(callers, "signed/plain", access="UPLOAD").json(), b"bytes").status_code == 200
    url = str(callers.http.base_url).rstrip("/")
    done = imageflow("images", "get", "signed/plain", "-o", str(tmp_path / "out"), "--url", url, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sizeBytes"] == 5
    assert (tmp_path / "out").read_bytes() == b"bytes"


def test_the_command_makes_urls_that_the_store_takes(callers: Callers) -> None:
    url = ("--url", str(callers.http.base_url).rstrip("/"))
    digest = hashlib.sha256(b"bytes").hexdigest()
    upload = ("--upload", "--type", "image/png", "--sha256", digest, "--lifetime", "60", "--json")
    made = imageflow("images", "sign", "signed/by-command", *upload, *url)
    assert made.returncode == 0, made.stderr
    signed = json.loads(made.stdout)
    assert "X-Amz-Expires=60" in signed["url"]
    assert use(signed, b"evil").status_code == 400
    assert use(signed, b"bytes").status_code == 200
    down = imageflow("images", "sign", "signed/by-command", *url)
    assert httpx.get(down.stdout.strip(), timeout=30).content == b"bytes"


def test_the_command_says_what_only_an_upload_has(callers: Callers) -> None:
    refused = imageflow("images", "sign", "x", "--type", "image/png", "--url", str(callers.http.base_url).rstrip("/"))
    assert (refused.returncode, "--upload" in refused.stderr) == (2, True)
