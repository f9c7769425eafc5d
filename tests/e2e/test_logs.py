"""What is logged: nothing secret, nothing of an image, each event one line (R62); more of it on request."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from . import pictures
from .product import Product, eventually, imageflow

SERVICES = ("orchestrator", "resize", "detect", "filter")


@dataclass(frozen=True, slots=True)
class Logged:
    product: Product
    http: httpx.Client
    folder: Path

    def lines(self) -> list[dict[str, object]]:
        """Each a JSON object, but for what `up` itself may say."""
        return [json.loads(line) for line in self.product.err.splitlines()]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A product that logs all there is, by a request while it runs."""
    folder = tmp_path_factory.mktemp("logged")
    product = Product(folder, "--log-format", "json")
    try:
        product.wait_ready()
        asked = imageflow("log-level", "debug", "--data", str(product.data))
        assert asked.returncode == 0, asked.stderr
        with httpx.Client(base_url=product.url, timeout=30) as http:
            yield Logged(product, http, folder)
    finally:
        product.end()
        product.kill()


def test_levels_change_while_services_run(logged: Logged) -> None:
    def debugging() -> set[object]:
        levels = [each for each in logged.lines() if each.get("message") == "log.level"]
        return {each["service"] for each in levels if each["level"] == "WARNING"}

    eventually(lambda: debugging() >= set(SERVICES))
    logged.http.get("/v1/components")
    eventually(lambda: any(each.get("message") == "rpc.finished" for each in logged.lines()))

    asked = imageflow("log-level", "usual", "--data", str(logged.product.data), "--service", "orchestrator")
    assert asked.stdout == "orchestrator: usual\n"
    eventually(lambda: sum(each.get("message") == "log.level" for each in logged.lines()) == len(SERVICES) + 1)
    again = imageflow("log-level", "debug", "--data", str(logged.product.data), "--service", "orchestrator")
    assert again.returncode == 0
    unknown = imageflow("log-level", "debug", "--data", str(logged.product.data), "--service", "nobody")
    assert unknown.returncode == 1
    assert "nobody does not run here" in unknown.stderr


def test_nothing_secret_and_nothing_of_an_image_is_ever_logged(logged: Logged) -> None:
    """A hostile run: secrets wherever a caller can put them, images that fail in every way."""
    http, secret = logged.http, f"hush-{secrets.token_hex(8)}"
    headers = {
        "authorization": f"Bearer {secret}",
        "x-api-key": secret,
        "cookie": f"session={secret}",
        "baggage": f"token={secret}",
        "content-type": "image/jpeg",
    }
    image = pictures.photo(64, 64)
    marked = image + secret.encode()
    step = {"stepId": "small", "componentName": "resize", "parameters": {"width": 16}}
    definition = {"pipelineId": "hostile", "version": "1.0.0", "steps": [step]}
    assert http.post("/v1/pipelines", json=definition, headers={"authorization": secret}).is_success
    assert http.put("/v1/images/uploads/marked.jpg", content=marked, headers=headers).is_success
    statuses = [
        http.post("/v1/pipelines/hostile:process", content=content, headers=headers, params=query).status_code
        for content in (marked, marked[:300] + secret.encode(), secret.encode(), b"")
        for query in ({}, {"token": secret}, {"set": f"small.width={secret}"})
    ]
    assert set(statuses) >= {200, 400}
    for body in (secret, json.dumps({"token": secret}), json.dumps({"pipeline": {"steps": [{"password": secret}]}})):
        answer = http.post(
            "/v1/pipelines:execute", content=body, headers={**headers, "content-type": "application/json"}
        )
        assert answer.status_code == 400
    executed = http.post("/v1/pipelines:execute", json={"pipelineId": "hostile", "inputPath": "uploads/marked.jpg"})
    assert executed.json()["status"] == "COMPLETED"

    last = http.post("/v1/pipelines/hostile:process", content=image, headers={"content-type": "image/jpeg"})
    eventually(lambda: last.headers["imageflow-execution-id"] in logged.product.err)
    said = logged.product.err
    assert secret not in said
    for start in range(0, len(image) - 48, 48):
        piece = image[start : start + 48]
        assert base64.b64encode(piece).decode() not in said
        assert repr(piece)[2:-1] not in said


def test_what_a_caller_names_stays_within_its_line(logged: Logged) -> None:
    """Ids and keys with line breaks and quotes are refused or escaped: no line is forged."""
    forged = 'x"}\n{"timestamp":"2020-01-01T00:00:00Z","message":"forged"}\n'
    before = len(logged.lines())
    logged.http.get(f"/v1/executions/{quote(forged, safe='')}")
    logged.http.post("/v1/pipelines:execute", json={"pipelineId": forged, "executionId": forged, "inputPath": forged})
    step = {"stepId": forged, "componentName": forged}
    logged.http.post("/v1/pipelines:execute", json={"pipeline": {"pipelineId": forged, "steps": [step]}})
    logged.http.get("/v1/components", headers={"user-agent": "a\tb", "traceparent": '"}{"'})
    eventually(lambda: len(logged.lines()) >= before + 4)
    assert not any(each.get("message") == "forged" for each in logged.lines())
