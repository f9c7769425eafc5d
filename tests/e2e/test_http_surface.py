"""Every route of the HTTP interface, by an ordinary HTTP client."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from . import pictures
from .callers import http_refusal

if TYPE_CHECKING:
    from .callers import Callers


def example(folder: Path, name: str) -> dict[str, Any]:
    definition: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return definition


def store(callers: Callers, definition: dict[str, Any]) -> httpx.Response:
    response = callers.post("/v1/pipelines", definition)
    assert response.status_code == 200, response.text
    return response


def upload(callers: Callers, key: str, data: bytes, media_type: str = "image/jpeg") -> dict[str, Any]:
    response = callers.http.put(f"/v1/images/{key}", content=data, headers={"content-type": media_type})
    assert response.status_code == 200, response.text
    stored: dict[str, Any] = response.json()
    return stored


def test_a_photo_goes_up_through_a_pipeline_and_comes_down(callers: Callers, examples: Path) -> None:
    photo = pictures.photo(1280, 960)
    stored = upload(callers, "surface/photo.jpg", photo)
    assert stored["sha256"] == hashlib.sha256(photo).hexdigest()
    assert (stored["key"], stored["sizeBytes"], stored["mediaType"]) == (
        "surface/photo.jpg",
        str(len(photo)),
        "image/jpeg",
    )

    execution = callers.post(
        "/v1/pipelines:execute",
        {
            "pipeline": example(examples, "resize-filter"),
            "inputPath": "surface/photo.jpg",
            "outputPath": "surface/small.png",
            "outputFormat": "png",
            "executionId": "surface-1",
            "overrides": {"resize.width": 320, "sharpen.filterType": "grayscale"},
        },
    ).json()
    assert (execution["executionId"], execution["status"]) == ("surface-1", "COMPLETED"), execution
    assert set(execution["results"]) == {"resize", "sharpen"}
    assert execution["results"]["resize"]["metadata"]["outputWidth"] == 320
    assert execution["executionTimeMs"] > 0

    output = callers.http.get(f"/v1/images/{execution['finalOutputPath']}")
    assert output.headers["content-type"] == "image/png"
    assert output.headers["imageflow-sha256"] == hashlib.sha256(output.content).hexdigest()
    assert output.headers["imageflow-size-bytes"] == str(len(output.content))
    assert pictures.decoded(output.content).size == (320, 240)

    found_out = callers.http.get("/v1/images/surface/small.png.json")
    assert found_out.headers["content-type"] == "application/json"
    assert found_out.json()["steps"]["sharpen"]["filterType"] == "grayscale"


def test_the_server_chooses_a_key_for_an_upload_without_one(callers: Callers) -> None:
    photo = pictures.photo()
    stored = callers.http.post("/v1/images", content=photo, headers={"content-type": "image/jpeg"}).json()
    assert re.fullmatch(r"uploads/[0-9a-f-]{36}", stored["key"])
    assert callers.http.get(f"/v1/images/{stored['key']}").content == photo
    assert callers.http.delete(f"/v1/images/{stored['key']}").status_code == 200
    assert callers.http.get(f"/v1/images/{stored['key']}").status_code == 404


def test_head_tells_of_an_image_what_get_does(callers: Callers) -> None:
    photo = pictures.photo()
    callers.http.put("/v1/images/in/told.jpg", content=photo, headers={"content-type": "image/jpeg"})
    got, told = (callers.http.request(verb, "/v1/images/in/told.jpg") for verb in ("GET", "HEAD"))
    assert (told.status_code, told.content, told.headers["content-length"]) == (200, b"", str(len(photo)))
    for name in ("content-type", "imageflow-sha256", "imageflow-size-bytes", "x-content-type-options"):
        assert told.headers[name] == got.headers[name]
    assert callers.http.head("/v1/images/in/none.jpg").status_code == 404


def test_an_execution_can_be_read_and_listed_afterwards(callers: Callers, examples: Path) -> None:
    upload(callers, "surface/listed.jpg", pictures.photo())
    for number in range(3):
        request = {"pipeline": example(examples, "resize"), "inputPath": "surface/listed.jpg"}
        answer = callers.post("/v1/pipelines:execute", {**request, "executionId": f"listed-{number}"})
        assert answer.status_code == 200, answer.text
    one = callers.http.get("/v1/executions/listed-1").json()
    assert (one["status"], one["pipelineId"], one["inputPath"]) == ("COMPLETED", "resize", "surface/listed.jpg")
    assert one["createTime"] <= one["startTime"] <= one["endTime"]
    listed = callers.http.get("/v1/executions", params={"pageSize": 2}).json()
    assert [each["executionId"] for each in listed["executions"]] == ["listed-2", "listed-1"]
    rest = callers.http.get("/v1/executions", params={"pageSize": 2, "pageToken": listed["nextPageToken"]}).json()
    assert rest["executions"][0]["executionId"] == "listed-0"
    by_pipeline = callers.http.get("/v1/executions", params={"pipelineId": "no-such", "status": "COMPLETED"})
    assert by_pipeline.json()["executions"] == []


def test_a_definition_has_versions_and_the_newest_is_used(callers: Callers) -> None:
    def version(number: str, width: int) -> dict[str, Any]:
        step = {"stepId": "fit", "componentName": "resize", "parameters": {"width": width}}
        return {"pipelineId": "versioned", "version": number, "steps": [step]}

    store(callers, version("1.0.0", 100))
    store(callers, version("2.0.0", 200))
    store(callers, version("1.0.0", 100))
    listed = callers.http.get("/v1/pipelines", params={"pipelineId": "versioned"}).json()["pipelines"]
    assert [each["version"] for each in listed] == ["2.0.0", "1.0.0"]
    assert callers.http.get("/v1/pipelines/versioned").json()["version"] == "2.0.0"

    def width(**query: str) -> int:
        response = callers.http.post("/v1/pipelines/versioned:process", content=pictures.photo(), params=query)
        assert response.status_code == 200, response.text
        return pictures.decoded(response.content).width

    assert (width(), width(version="1.0.0"), width(set="fit.width=50")) == (200, 100, 50)
    assert callers.http.delete("/v1/pipelines/versioned", params={"version": "2.0.0"}).status_code == 200
    assert width() == 100
    assert callers.http.delete("/v1/pipelines/versioned").status_code == 200
    assert callers.http.get("/v1/pipelines/versioned").status_code == 404


def test_process_answers_the_image_and_says_where_the_time_went(callers: Callers, examples: Path) -> None:
    store(callers, example(examples, "resize-filter"))
    response = callers.http.post(
        "/v1/pipelines/resize-filter:process",
        content=pictures.photo(),
        headers={"content-type": "image/jpeg"},
        params={"outputFormat": "webp", "quality": "40", "set": ["resize.width=200", "sharpen.filter-type=invert"]},
    )
    assert response.headers["content-type"] == "image/webp"
    image = pictures.decoded(response.content)
    assert (image.format, image.width) == ("WEBP", 200)
    assert re.fullmatch(r"[0-9a-f-]{36}", response.headers["imageflow-execution-id"])
    timing = response.headers["server-timing"]
    assert re.findall(r"(?:^|, )(\w+);dur=", timing) == ["total", "overhead", "queue", "plan", "resize", "sharpen"]
    for step in ("resize", "sharpen"):
        parts = re.search(rf'{step};dur=([\d.]+);desc="([^"]+)"', timing)
        assert parts, timing
        times = {name: float(value) for name, value in (part.split("=") for part in parts[2].split())}
        assert set(times) == {"queue", "transport", "decode", "compute", "encode", "retry"}
        assert sum(times.values()) == pytest.approx(float(parts[1]), rel=0.2, abs=1.0)


def test_quality_decides_the_size_of_a_lossy_output(callers: Callers) -> None:
    sizes = [len(callers.process_http(pictures.photo(), quality=quality).content) for quality in (10, 50, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] * 2 < sizes[2]


def test_one_component_runs_alone_with_its_parameters(callers: Callers) -> None:
    response = callers.process_http(pictures.photo(), "image/jpeg", set=["width=64", "maintain-aspect-ratio=false"])
    assert pictures.decoded(response.content).size == (64, 600)
    assert response.headers["server-timing"].count(";desc=") == 1


def test_components_are_listed_with_sound_schemas(callers: Callers) -> None:
    listed = callers.http.get("/v1/components").json()["components"]
    assert [each["name"] for each in listed] == ["detect", "filter", "resize"]
    for component in listed:
        assert component["available"]
        assert component["versions"]
        Draft202012Validator.check_schema(component["parametersSchema"])
        for parameter in component["parametersSchema"]["properties"].values():
            assert parameter["description"]
    width = listed[2]["parametersSchema"]["properties"]["width"]
    assert (width["default"], width["minimum"], width["x-unit"]) == (800, 1, "px")
    assert callers.http.get("/v1/components/object-detection").json()["name"] == "detect"


def test_validate_answers_the_plan_with_every_parameter(callers: Callers, examples: Path) -> None:
    plan = callers.post("/v1/pipelines:validate", {"pipeline": example(examples, "inspect-coins")}).json()
    steps = {step["stepId"]: step for step in plan["steps"]}
    assert [steps[name]["componentName"] for name in ("resize", "detect", "filter")] == ["resize", "detect", "filter"]
    assert steps["detect"]["parameters"]["maxDetections"] == 300
    assert {step["transport"] for step in plan["steps"]} == {"shared-memory"}
    assert plan["outputStep"] == "filter"


def test_validate_answers_every_fault_at_once(callers: Callers) -> None:
    steps = [
        {"stepId": "a", "componentName": "resize", "parameters": {"width": 0, "wide": 1}},
        {"stepId": "b", "componentName": "blur", "dependencies": ["nowhere"]},
    ]
    response = callers.post("/v1/pipelines:validate", {"pipeline": {"pipelineId": "p", "steps": steps}})
    assert response.status_code == 400
    for place in ("steps[a].parameters.width", "steps[a].parameters.wide", "steps[b].componentName", "nowhere"):
        assert place in response.text


def test_it_says_that_it_is_healthy_and_ready(callers: Callers) -> None:
    assert callers.http.get("/healthz").json()["status"] == "ok"
    ready = callers.http.get("/readyz").json()
    assert (ready["status"], ready["components"]) == ("ready", ["detect", "filter", "resize"])


def test_every_path_of_the_openapi_document_is_served(callers: Callers) -> None:
    document = callers.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    asked = 0
    for path, operations in document["paths"].items():
        for verb in operations:
            target = re.sub(r"{[^}]+}", "no-such-thing", path)
            response = callers.http.request(verb, target, content=b"" if verb in ("post", "put") else None)
            if verb == "head":
                assert response.status_code in (200, 404)
                assert response.content == b""
            elif response.status_code != 200:  # refused by the service behind it, which is what was asked for
                reason = http_refusal(response).reason
                assert response.status_code in (400, 404), (verb, path, response.text)
                assert reason != "NO_SUCH_ROUTE", (verb, path)
            asked += 1
    assert asked >= 19


def test_lists_come_in_pages(callers: Callers) -> None:
    for name in "abcde":
        upload(callers, f"paged/{name}.jpg", pictures.photo(8, 8))
    seen: list[str] = []
    token, pages = "", 0
    while token or not pages:
        query = {"prefix": "paged/", "pageSize": 2, "pageToken": token}
        page = callers.http.get("/v1/images", params=query).json()
        seen += [image["key"] for image in page["images"]]
        token, pages = page["nextPageToken"], pages + 1
    assert (seen, pages) == ([f"paged/{name}.jpg" for name in "abcde"], 3)

    components, token = [], ""
    for _ in range(3):
        page = callers.http.get("/v1/components", params={"pageSize": 1, "pageToken": token}).json()
        components += [each["name"] for each in page["components"]]
        token = page["nextPageToken"]
    assert (components, token) == (["detect", "filter", "resize"], "")


def test_a_page_on_this_machine_may_call_from_a_browser_and_no_other(callers: Callers) -> None:
    def preflight(origin: str) -> httpx.Response:
        headers = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        return callers.http.options("/v1/components/resize:process", headers=headers)

    allowed = preflight("http://localhost:5173")
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert "access-control-allow-origin" not in preflight("https://elsewhere.example").headers

    answer = callers.http.get("/healthz", headers={"origin": "http://localhost:5173"})
    assert "server-timing" in answer.headers["access-control-expose-headers"]
